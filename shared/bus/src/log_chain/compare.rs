//! Comparing the lines of a part with what its chain says about them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use serde::Deserialize;

use super::{record::Hash, verify::Problem};

/// The lines of a part as they stand.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Decision, where it can be read, and hash.
    pub(super) lines: Vec<(Option<u64>, Hash)>,
    /// Bytes behind the last line feed.
    pub(super) n_torn: usize,
}

#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl Lines {
    /// Reads a part; `None` when it is not there.
    pub(super) fn read(part: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(part) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut found, mut line) = (Self::default(), Vec::new());
        loop {
            line.clear();
            if file.read_until(b'\n', &mut line)? == 0 {
                return Ok(Some(found));
            }
            let Some(text) = line.strip_suffix(b"\n") else {
                found.n_torn = line.len();
                return Ok(Some(found));
            };
            let seq = serde_json::from_slice::<Numbered>(text).ok().map(|it| it.seq);
            found.lines.push((seq, Hash::of(text)));
        }
    }
}

/// Where each hash stands, the first places first.
fn places(hashes: impl Iterator<Item = Hash>) -> HashMap<Hash, VecDeque<usize>> {
    let mut places: HashMap<Hash, VecDeque<usize>> = HashMap::new();
    for (idx, hash) in hashes.enumerate() {
        places.entry(hash).or_default().push_back(idx);
    }
    places
}

/// Returns the first place from `from` on.
fn next(
    places: &mut HashMap<Hash, VecDeque<usize>>,
    hash: Hash,
    from: usize,
    used: &HashSet<usize>,
) -> Option<usize> {
    let places = places.get_mut(&hash)?;
    while places.front().is_some_and(|it| *it < from || used.contains(it)) {
        places.pop_front();
    }
    places.front().copied()
}

fn number(idx: usize) -> u64 {
    u64::try_from(idx).unwrap_or(u64::MAX).saturating_add(1)
}

/// Tells how the lines of a part differ from those of its chain.
pub(super) fn compare(part: &Path, found: &Lines, wanted: &[(u64, Hash)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |n_line: usize, what: String| {
        problems.push(Problem::of_line(part, number(n_line), what));
    };
    let mut in_found = places(found.lines.iter().map(|(_, hash)| *hash));
    let mut in_wanted = places(wanted.iter().map(|(_, hash)| *hash));
    // Lines of the chain that were met in another place.
    let mut met: HashSet<usize> = HashSet::new();
    let (none, (mut i, mut j)) = (HashSet::new(), (0, 0));
    while let (Some((seq, want)), Some((named, have))) = (wanted.get(i), found.lines.get(j)) {
        if met.contains(&i) {
            i += 1;
            continue;
        }
        if want == have {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let elsewhere = next(&mut in_found, *want, j, &none);
        match (next(&mut in_wanted, *have, i, &met), elsewhere) {
            (None, None) => {
                say(j, format!("the line of decision {seq} was changed"));
                (i, j) = (i + 1, j + 1);
            }
            (Some(_), None) => {
                say(j, format!("the line of decision {seq} was removed before this line"));
                i += 1;
            }
            (None, Some(_)) => {
                let of = named.map_or_else(String::new, |it| format!(" of decision {it}"));
                say(j, format!("the line{of} was inserted"));
                j += 1;
            }
            (Some(place), Some(_)) => {
                let of = wanted.get(place).map_or(0, |(seq, _)| *seq);
                say(
                    j,
                    format!(
                        "the line of decision {of} was moved here, where decision {seq} belongs"
                    ),
                );
                met.insert(place);
                j += 1;
            }
        }
    }
    let left: Vec<u64> = (i..)
        .zip(wanted.iter().skip(i))
        .filter(|(i, _)| !met.contains(i))
        .map(|(_, it)| it.0)
        .collect();
    problems.extend(at_the_end(part, found, &left, j));
    problems
}

/// Tells what is missing at the end, and what is there and in no chain, from line `j` on.
fn at_the_end(part: &Path, found: &Lines, left: &[u64], j: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |n_line: usize, what: String| {
        problems.push(Problem::of_line(part, number(n_line), what));
    };
    if let (Some(first), Some(last)) = (left.first(), left.last()) {
        let torn = match found.n_torn {
            0 => String::new(),
            n => format!("; {n} bytes of a line that was cut off are left"),
        };
        let n = left.len();
        say(
            found.lines.len(),
            format!(
                "the end is cut: decisions {first} to {last} ({n}) are missing from here on{torn}"
            ),
        );
    } else if 0 < found.n_torn {
        let n = found.n_torn;
        say(found.lines.len(), format!("{n} bytes without a line end were added"));
    }
    if let Some((named, _)) = found.lines.get(j) {
        let n = found.lines.len() - j;
        let from = named.map_or_else(String::new, |it| format!(", from decision {it} on"));
        say(
            j,
            format!(
                "{n} lines from here on{from} are not in the chain: they were added, or the end of the chain was cut"
            ),
        );
    }
    problems
}
