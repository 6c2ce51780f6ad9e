//! `key`: makes and shows the keys that supervisors sign with.

use serde_json::json;

use crate::{
    args::Key,
    exit::{Exit, Failure},
    terminal::Terminal,
    up::keys::write_secret,
};

/// Does what is wanted.
///
/// # Errors
///
/// When the file cannot be written or read.
pub(crate) fn run(command: Key, terminal: Terminal) -> Result<(), Failure> {
    let (file, public) = match command {
        Key::New { file } => {
            let failed = |error: std::io::Error| {
                Failure::new(Exit::Failed, format!("cannot write `{}`", file.display()))
                    .hint("name a file that is not there, in a directory that you may write")
                    .because(error)
            };
            let (seed, public) = bus::new_key()
                .map_err(|error| Failure::new(Exit::Failed, "cannot make a key").because(error))?;
            write_secret(&file, &seed).map_err(failed)?;
            (file, public)
        }
        Key::Show { file } => {
            let public = bus::public_key(&file).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot read a seed in `{}`", file.display()))
                    .hint("it must be a file that `selfheal key new` has written")
                    .because(error)
            })?;
            (file, public)
        }
    };
    if terminal.is_json() {
        return terminal.print_json(&json!({"file": file, "public_key": public}), false);
    }
    terminal.print(&public)
}
