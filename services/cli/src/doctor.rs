//! `doctor`: what is wrong with an installation, why it matters, and how to mend it.
//!
//! It looks at everything that can be looked at without changing it ([`gather`]), and then asks
//! one [`checks::Check`] after the other what that means. A check that has not enough to go by says
//! so: half a system is still half examined.

mod checks;
mod facts;
mod finding;
mod gather;
mod local;
mod report;
mod security;
mod server;

use crate::{
    args::{Doctor, Global},
    exit::{Exit, Failure},
    terminal::Terminal,
};

use report::Report;

/// Looks at everything and prints what is wrong.
///
/// # Errors
///
/// [`Exit::Failed`] when there are warnings, [`Exit::Broken`] when there is worse; all has been
/// printed then.
pub(crate) async fn run(args: &Doctor, global: &Global, terminal: Terminal) -> Result<(), Failure> {
    let facts = gather::all(args, global).await?;
    let report = Report::of(&facts);
    if terminal.is_json() {
        terminal.print_json(&report, true)?;
    } else {
        terminal.print(&report.text())?;
    }
    match report.worst() {
        None | Some(finding::Severity::Note) => Ok(()),
        Some(finding::Severity::Warning) => Err(Failure::silent(Exit::Failed)),
        Some(finding::Severity::Error) => Err(Failure::silent(Exit::Broken)),
    }
}
