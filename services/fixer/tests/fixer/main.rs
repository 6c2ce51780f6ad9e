//! The fixer against real processes, files, servers and a real broker.

#[cfg(test)]
mod command_run;
#[cfg(test)]
mod disk_clean;
#[cfg(test)]
mod http_request;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod process_restart;
#[cfg(test)]
mod starting;
