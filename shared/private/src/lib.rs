//! Files of one owner: made for nobody else, written through nobody else's links, and secrets
//! that are refused where others may read them.

mod files;
mod secret;
pub mod umask;

pub use files::{
    append, append_to, check_dir, create, create_dir, create_new, lockable, replace, write,
};
pub use secret::{Refused, read_secret};
