//! The gateway as a process, with a real broker behind it.

#[cfg(test)]
mod access;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod captured;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod document;
#[cfg(test)]
mod events;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod integrations;
#[cfg(test)]
mod notices;
#[cfg(test)]
mod office;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod once;
#[cfg(test)]
mod partners;
#[cfg(test)]
mod permissions;
#[cfg(test)]
mod process;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod sink;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod watchdog;
#[cfg(test)]
mod ways;
