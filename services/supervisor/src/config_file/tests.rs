//! Saves of many kinds, with looks between their steps: no text is ever in force that nobody has
//! written as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    process::Command,
};

use chrono::Utc;
use tempfile::TempDir;

use super::*;

const OLD: &str = "\
targets:
  - name: a
    checks:
      - tcp: 127.0.0.1:1
  - name: b
    checks:
      - tcp: 127.0.0.1:2
        every: 5s
  - name: c
    autonomy: approve
    process:
      command:
        - sleep
        - '100'
policy:
  autonomy: approve
  attempts: 2
  freeze:
    - from: 2020-01-01T00:00:00Z
      until: 2100-01-01T00:00:00Z
      reason: quarter end
  soak: 5s
";

/// An edit at the begin, one in the middle, and one at the end.
fn new() -> String {
    let more = "  - name: d\n    checks:\n      - tcp: 127.0.0.1:4\npolicy:\n";
    let new = OLD.replace("127.0.0.1:1", "127.0.0.1:11").replace("policy:\n", more);
    new.replace("soak: 5s", "soak: 50s")
}

fn parsed(text: &str) -> Config {
    config::parse(text).unwrap()
}

/// A host with a file, and what came into force there.
struct Host {
    dir: TempDir,
    file: ConfigFile,
    now: Instant,
    in_force: Config,
    n_taken: usize,
    held: Option<Config>,
    /// How long the text had been the same of which people were told last.
    told_after: Option<Duration>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("selfheal.yaml");
        fs::write(&path, OLD).unwrap();
        Self::at(dir, path)
    }

    fn at(dir: TempDir, path: PathBuf) -> Self {
        let (file, now) = (ConfigFile::new(path), Instant::now());
        let in_force = Config::default();
        let mut host = Self { dir, file, now, in_force, n_taken: 0, held: None, told_after: None };
        host.looks(3);
        assert_eq!((host.n_taken, &host.in_force), (1, &parsed(OLD)));
        host
    }

    fn path(&self) -> PathBuf {
        self.file.path.clone()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Looks once a second, as the follower does, and decides as the desk does.
    fn looks(&mut self, n: usize) {
        for _ in 0..n {
            self.now += Duration::from_secs(1);
            let Look::Quiet(quiet) = self.file.look(self.now) else { continue };
            let is_first = self.n_taken == 0;
            let needed = match self.file.candidate().unwrap() {
                Ok(config) => {
                    let asked = self.in_force.to_confirm(config, Utc::now());
                    let is_held = !is_first && !asked.is_empty();
                    quiet_needed(false, is_held || self.file.is_doubtful())
                }
                Err(_) => quiet_needed(true, self.file.is_doubtful()),
            };
            if quiet < needed {
                continue;
            }
            let text =
                |sha256: &str, _| FoundText { sha256: sha256.to_owned(), since: 0, changed: true };
            let Found { doubts, content, .. } = self.file.take(text).unwrap();
            let Ok(config) = content else {
                self.told_after = Some(quiet);
                continue;
            };
            let asked = self.in_force.to_confirm(&config, Utc::now());
            self.held = None;
            if is_first || (doubts.is_empty() && asked.is_empty()) {
                if *config != self.in_force {
                    self.n_taken += 1;
                    self.in_force = *config;
                }
            } else {
                self.held = Some(*config);
                self.told_after = Some(quiet);
            }
        }
    }
}

/// One step of a save.
type Step = Box<dyn FnMut(&Host, &mut Option<File>)>;

fn step(step: impl FnMut(&Host, &mut Option<File>) + 'static) -> Step {
    Box::new(step)
}

fn pieces(text: &str, bytes: usize) -> Vec<Vec<u8>> {
    text.as_bytes().chunks(bytes).map(<[u8]>::to_vec).collect()
}

fn writes(pieces: Vec<Vec<u8>>) -> impl Iterator<Item = Step> {
    pieces.into_iter().map(|it| step(move |_, open| open.as_mut().unwrap().write_all(&it).unwrap()))
}

fn truncated() -> Step {
    step(|host, open| *open = Some(File::create(host.path()).unwrap()))
}

fn closed() -> Step {
    step(|_, open| *open = None)
}

/// Opens, truncates, writes and closes the file itself: `cp`, `scp`, `kubectl cp`, nano, `>`.
fn in_place(text: &str, bytes: usize) -> Vec<Step> {
    let mut steps = vec![truncated()];
    steps.extend(writes(pieces(text, bytes)));
    steps.push(closed());
    steps
}

/// Writes another file and renames it: `rsync`, `sed -i`, most editors of today.
fn renamed(name: &'static str, text: &str, bytes: usize) -> Vec<Step> {
    let mut steps =
        vec![step(move |host, open| *open = Some(File::create(host.beside(name)).unwrap()))];
    steps.extend(writes(pieces(text, bytes)));
    steps.push(closed());
    steps.push(step(move |host, _| fs::rename(host.beside(name), host.path()).unwrap()));
    steps
}

/// Renames the file to a backup and writes a new one: vim with `backupcopy=no`.
fn vim(text: &str) -> Vec<Step> {
    let backup = || step(|host, _| fs::rename(host.path(), host.beside("selfheal.yaml~")).unwrap());
    let gone = step(|host, _| fs::remove_file(host.beside("selfheal.yaml~")).unwrap());
    let mut steps = vec![backup()];
    steps.extend(in_place(text, 64));
    steps.push(gone);
    steps
}

/// Copies the file to a backup and writes it in place: vim with `backupcopy=yes`, nano with `-B`.
fn vim_in_place(text: &str) -> Vec<Step> {
    let copy = step(|host, _| {
        let _bytes = fs::copy(host.path(), host.beside("selfheal.yaml~")).unwrap();
    });
    let mut steps = vec![copy];
    steps.extend(in_place(text, 8192));
    steps
}

/// Opens the file anew for each line: a script of `echo … >> selfheal.yaml`.
fn line_by_line(text: &str) -> Vec<Step> {
    let mut steps = vec![truncated(), closed()];
    for line in text.split_inclusive('\n').map(str::to_owned) {
        steps.push(step(move |host, _| {
            let mut file = OpenOptions::new().append(true).open(host.path()).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }));
    }
    steps
}

/// Goes through a save with looks between its steps, and returns what came of it.
fn save(mut steps: Vec<Step>, mut n_looks: impl FnMut() -> usize) -> Host {
    let mut host = Host::new();
    let whole = [parsed(OLD), parsed(&new())];
    let mut open = None;
    for step in &mut steps {
        step(&host, &mut open);
        for _ in 0..n_looks() {
            host.looks(1);
            assert!(whole.contains(&host.in_force), "nobody wrote {:?}", host.in_force);
        }
    }
    host.looks(60);
    assert!(whole.contains(&host.in_force), "nobody wrote {:?}", host.in_force);
    host
}

/// Numbers that differ from run to run in no way.
fn by_chance(seed: u64, max: u64) -> impl FnMut() -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (max + 1)).unwrap()
    }
}

#[test]
fn however_a_file_is_saved_only_whole_texts_come_into_force() {
    type Saver = (&'static str, fn() -> Vec<Step>);
    let savers: [Saver; 8] = [
        ("cp", || in_place(&new(), 100)),
        ("nano", || in_place(&new(), 65_536)),
        ("a slow writer that keeps it open", || in_place(&new(), 20)),
        ("a slow writer, line by line", || line_by_line(&new())),
        ("sed -i", || renamed("sedA1b2C3", &new(), 50)),
        ("rsync", || renamed(".selfheal.yaml.Ab12Cd", &new(), 256)),
        ("vim", || vim(&new())),
        ("vim in place", || vim_in_place(&new())),
    ];
    for (name, steps) in savers {
        for n in (0..=6).chain([15, 40]) {
            let host = save(steps(), || n);
            assert_eq!(host.in_force, parsed(&new()), "{name}, {n} looks between its steps");
            assert_eq!(host.held, None, "{name}");
        }
        for seed in 0..20 {
            let host = save(steps(), by_chance(seed, 12));
            assert_eq!(host.in_force, parsed(&new()), "{name}, {seed}");
        }
    }
}

#[test]
fn an_ordinary_save_is_in_force_within_two_seconds() {
    let mut host = Host::new();
    fs::write(host.path(), new()).unwrap();
    host.looks(2);
    assert_eq!(host.in_force, parsed(&new()));
    fs::write(host.path(), OLD.replace("soak: 5s", "soak: 60s")).unwrap();
    host.looks(12);
    assert_eq!(host.in_force, parsed(&new()), "a target less at the end: it is asked");
    assert!(host.held.is_some());
}

/// A slow writer may go on with it for as long.
#[test]
fn people_are_told_of_a_text_in_doubt_when_the_doubt_has_lasted() {
    for cut in [
        "",
        "\n",
        // Valid: all that is missing is the line end.
        OLD.trim_end(),
        // Valid, and the beginning of the former one.
        OLD.split("  soak").next().unwrap(),
        // Cut in the middle of a line.
        "targets:\n  - name: a\n    chec",
    ] {
        let host = save(in_place(cut, 65_536), || 1);
        assert_eq!(host.in_force, parsed(OLD), "{cut:?}");
        assert!(host.told_after >= Some(QUIET_HELD), "{cut:?}: {:?}", host.told_after);
    }
    // A mistake in a text as long as before is no sign of a writer at work.
    let host = save(in_place(&OLD.replace("checks", "chekcs"), 65_536), || 1);
    assert!(host.told_after < Some(QUIET_HELD), "{:?}", host.told_after);
}

/// The copy broke off, and nobody goes on with it.
#[test]
fn a_copy_that_broke_off_anywhere_is_not_in_force() {
    for end in 0..OLD.len() {
        let cut = OLD.get(..end).unwrap();
        let host = save(in_place(cut, 65_536), || 1);
        assert_eq!(host.in_force, parsed(OLD), "cut after {cut:?}");
    }
}

#[test]
fn a_file_that_is_emptied_or_removed_takes_nothing_with_it() {
    for steps in [
        vec![truncated(), closed()],
        vec![step(|host, _| fs::remove_file(host.path()).unwrap())],
        in_place("{}\n", 10),
        in_place("policy: {}\n", 10),
    ] {
        let host = save(steps, || 15);
        assert_eq!(host.in_force, parsed(OLD));
    }
}

#[test]
fn the_swap_of_a_mounted_configmap_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("selfheal.yaml");
    let write = |name: &str, text: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("selfheal.yaml"), text).unwrap();
    };
    write("..2026_01", OLD);
    write("..2026_02", &new());
    let root = dir.path().to_owned();
    symlink("..2026_01", root.join("..data")).unwrap();
    symlink("..data/selfheal.yaml", &path).unwrap();
    let mut host = Host::at(dir, path);
    symlink("..2026_02", root.join("..data_tmp")).unwrap();
    host.looks(1);
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    host.looks(1);
    fs::remove_dir_all(root.join("..2026_01")).unwrap();
    host.looks(2);
    assert_eq!(host.in_force, parsed(&new()));
}

#[test]
fn the_programs_of_every_host_save_whole_texts() {
    for (program, args) in [
        ("sed", vec!["-i", "s/soak: 5s/soak: 50s/", "selfheal.yaml"]),
        ("cp", vec!["new.yaml", "selfheal.yaml"]),
        ("mv", vec!["new.yaml", "selfheal.yaml"]),
        ("dd", vec!["if=new.yaml", "of=selfheal.yaml", "bs=7", "status=none"]),
        ("ln", vec!["-sf", "new.yaml", "selfheal.yaml"]),
    ] {
        let mut host = Host::new();
        let tighter = OLD.replace("soak: 5s", "soak: 50s");
        fs::write(host.beside("new.yaml"), &tighter).unwrap();
        let status = Command::new(program).args(args).current_dir(host.dir.path()).status();
        assert!(status.unwrap().success(), "{program}");
        host.looks(3);
        assert_eq!(host.in_force, parsed(&tighter), "{program}");
        assert_eq!(host.n_taken, 2, "{program}");
    }
}

/// The first part is written before the new file can be watched.
#[test]
fn a_new_file_that_is_still_open_is_waited_for_however_long_its_writer_pauses() {
    let mut host = Host::new();
    // The first part is valid, and nobody would be asked about it.
    let half = new();
    let whole = format!("{half}  approval_timeout: 1m\n");
    assert_ne!(parsed(&half), parsed(&whole));
    fs::remove_file(host.path()).unwrap();
    let mut open = File::create(host.path()).unwrap();
    open.write_all(half.as_bytes()).unwrap();
    host.looks(120);
    assert_eq!((host.n_taken, &host.in_force), (1, &parsed(OLD)), "half a text came into force");
    assert_eq!(host.file.writer(), Some(std::process::id()));
    open.write_all(b"  approval_timeout: 1m\n").unwrap();
    drop(open);
    host.looks(400);
    assert_eq!((host.n_taken, &host.in_force), (2, &parsed(&whole)));
    assert_eq!(host.file.writer(), None);
}

#[test]
fn mistakes_are_refused_with_their_place_once_the_text_is_at_rest() {
    let mut host = Host::new();
    fs::write(host.path(), "targets: [{nam: a}]\n").unwrap();
    host.looks(2);
    let Some(Err(mistakes)) = host.file.candidate() else { panic!("it was taken") };
    assert!(tell(mistakes).contains("selfheal.yaml:1:"), "{}", tell(mistakes));
    // It is shorter than the former text, and may be cut.
    host.looks(10);
    assert_eq!(host.file.look(host.now), Look::Same, "told once");
    assert_eq!(host.in_force, parsed(OLD));
}

#[tokio::test]
async fn a_named_file_that_is_missing_is_an_error_and_the_default_is_not() {
    let error = ConfigFile::new("/nowhere/x.yaml".into()).first().await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.yaml"), "{error}");
}
