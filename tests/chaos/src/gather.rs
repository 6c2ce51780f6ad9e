//! Gathers what the judge looks at, from disk.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    ground,
    history::{Fact, History, Line},
    ledger::Seen,
    load::Counts,
    record,
    world::World,
};

/// The log's file that is being written.
const LOG: &str = "incident_logs.jsonl";
/// Lines are no longer than this.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Logs and ledger are waited for so long, and read again after so long.
const AGREE_WITHIN: Duration = Duration::from_secs(20);
const AGREE_LOOK: Duration = Duration::from_millis(200);

/// Log lines by supervisor.
pub type Logs = BTreeMap<String, Vec<Line>>;

/// Reads all logs at a moment at which they and the ledger end with the same decision: the
/// system goes on deciding while it is looked at. When there is no such moment in time, they
/// are what they are, and the judge says so.
///
/// # Errors
///
/// When a file cannot be read.
pub async fn logs(world: &World, seen: &Seen) -> anyhow::Result<(Logs, Vec<Fact>)> {
    let start = Instant::now();
    loop {
        let before = seen.n_facts();
        let mut logs = Logs::new();
        for agent in &world.agents {
            if let Some(data) = &agent.data {
                logs.insert(agent.kept.name(), log(data)?);
            }
        }
        let agree = logs.values().all(|lines| lines.len() == before);
        if agree && before == seen.n_facts() || AGREE_WITHIN < start.elapsed() {
            return Ok((logs, seen.facts()?));
        }
        tokio::time::sleep(AGREE_LOOK).await;
    }
}

/// Gathers everything.
///
/// # Errors
///
/// When a file cannot be read.
pub fn history(
    world: &World,
    logs: Logs,
    facts: Vec<Fact>,
    counts: Counts,
) -> anyhow::Result<History> {
    let mut targets = BTreeMap::new();
    for target in &world.ground.targets {
        let record = record::read(world.ground.dir(), &target.name);
        targets.insert(target.name.clone(), record.unwrap_or_default());
    }
    Ok(History {
        accepted: counts.accepted,
        unanswered: counts.unanswered,
        facts,
        logs,
        targets,
        sick: world.ground.sick(),
        soak: ground::SOAK,
    })
}

/// Returns the files of a log, the oldest first: by the number in their names.
fn files(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut closed = Vec::new();
    for entry in std::fs::read_dir(data).context("cannot list the files of a log")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let middle = name.strip_prefix("incident_logs.").and_then(|it| it.strip_suffix(".jsonl"));
        let seq = middle.and_then(|it| it.rsplit('.').next()).and_then(|it| it.parse::<u64>().ok());
        closed.extend(seq.map(|seq| (seq, path)));
    }
    closed.sort();
    let open = data.join(LOG);
    Ok(closed.into_iter().map(|(_, path)| path).chain(open.exists().then_some(open)).collect())
}

fn log(data: &Path) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for file in files(data)? {
        for line in BufReader::new(std::fs::File::open(&file)?).lines() {
            let line = Line::read(&line?);
            lines.push(line.with_context(|| format!("in the log {}", file.display()))?);
        }
    }
    Ok(lines)
}

/// Returns the number of the last decision in a log; 0 when it is empty.
///
/// # Errors
///
/// When a file cannot be read.
pub fn last_seq(data: &Path) -> anyhow::Result<u64> {
    for path in files(data)?.iter().rev() {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LONGEST)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        let tail = String::from_utf8_lossy(&tail);
        // The last line may be half written at this moment.
        if let Some((whole, _)) = tail.rsplit_once('\n') {
            let last = whole.rsplit('\n').next().unwrap_or_default();
            return Ok(Line::read(last)?.seq);
        }
    }
    Ok(0)
}

/// Copies what a person would look at after a run that was not good.
///
/// # Errors
///
/// When something cannot be copied.
pub fn keep(world: &World) -> anyhow::Result<()> {
    for agent in &world.agents {
        // A small disk is gone with the run.
        if let (Some(data), Some(_)) = (&agent.data, &agent.disk) {
            let to = world.ground.dir().join("..").join(agent.kept.name()).join("log");
            std::fs::create_dir_all(&to)?;
            for file in files(data)? {
                let name = file.file_name().unwrap_or_default().to_owned();
                std::fs::copy(&file, to.join(name))?;
            }
        }
    }
    Ok(())
}
