//! What was adopted is recorded, as what was started is.
//!
//! A record keeps a target known when its command, its pid file or its name changes while it runs.
//! Monitors and fixers write it whenever they find a target in another way than by its record.

use super::{
    Files, KnownBy, MARK_RUN, Record, Run, Running, Search, files,
    find::history::{History, shown},
    proc,
    record::Definition,
};

/// Records which run is the target, if that is not recorded yet. Does nothing while somebody else
/// works on the target, and where the search is not about the target as it is configured: then
/// whoever asks next does it.
///
/// # Errors
///
/// When the state directory cannot be written.
pub fn record(search: Search<'_>, files: &Files, running: &Running) -> Result<(), files::Error> {
    let Some(new) = wanted(search, files, running) else { return Ok(()) };
    let Some(_lock) = files.try_lock()? else { return Ok(()) };
    // Somebody may have started or adopted another run before we had the lock.
    let Some(record) = wanted(search, files, running).filter(|it| *it == new) else {
        return Ok(());
    };
    files.write_record(&record)?;
    let is_configured = |name: &str| search.configured.is_none_or(|it| it.has(name));
    files.forget_former(&record.run, is_configured);
    Ok(())
}

/// Returns what is to be recorded.
fn wanted(search: Search<'_>, files: &Files, running: &Running) -> Option<Record> {
    let definition = Definition::of(search.handle);
    if !search.configured?.defines(files.target(), &definition) {
        return None;
    }
    let own = files.read_record().filter(|it| it.is_of_this_boot(search.host));
    let main = running.main;
    let new = match &running.by {
        KnownBy::Mark | KnownBy::Command => adopted(search, main),
        KnownBy::FormerName(_) if !is_recorded(search, main) => {
            inherited(search, main).unwrap_or_else(|| adopted(search, main))
        }
        // What its pid file names may have been started by the run that is recorded.
        KnownBy::Record | KnownBy::Adoption | KnownBy::PidFile | KnownBy::FormerName(_) => {
            let Some(history) = History::of(search) else { return Some(adopted(search, main)) };
            let started_as = history.name_before().filter(|it| *it != files.target());
            let started_as = started_as.map(str::to_owned);
            Record { definition, started_as, ..history.record }
        }
    };
    let is_known = |it: &Record| it.run == new.run && it.definition == new.definition;
    (!own.as_ref().is_some_and(is_known)).then_some(new)
}

/// Returns whether the record of the target tells of this run.
fn is_recorded(search: Search<'_>, main: Run) -> bool {
    History::of(search).is_some_and(|it| it.record.run == main)
}

/// Returns the record of a run that was another target's, for this one: what the run has started
/// stays known by its mark and its control group.
fn inherited(search: Search<'_>, main: Run) -> Option<Record> {
    let mut records = search.files.others(&|_| true).into_iter();
    let (name, record) = records.find(|(_, it)| it.run == main)?;
    let started_as = record.started_as.clone().unwrap_or_else(|| shown(&name).to_owned());
    let definition = Definition::of(search.handle);
    Some(Record { definition, started_as: Some(started_as), ..record })
}

fn adopted(search: Search<'_>, main: Run) -> Record {
    let mark = main.id().and_then(|it| proc::variable(it, MARK_RUN));
    let mut record = Record::new(main, mark.unwrap_or_default(), search.handle);
    record.is_adopted = true;
    record
}
