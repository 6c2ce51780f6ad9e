//! The configuration files on the hosts of the supervisors: edited by people, at once or slowly,
//! on some hosts and not on others, while the broker is away, and read half-written.

use std::{cell::RefCell, rc::Rc};

use domain::{config::Config, desk::FoundText, id::sha256_hex};

use crate::{
    clock::{MS, Micros, SECOND},
    options::Part,
    people,
    rng::Rng,
    sim::NodeId,
    world::{Kind, World},
};

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// One of the scene's configurations.
    Whole(usize),
    /// Its beginning, which is a valid configuration.
    Cut(usize),
}

/// The file of one host, and what its supervisor remembers of it on its disk.
#[derive(Debug)]
pub(crate) struct HostFile {
    pub(crate) text: Text,
    /// The last whole text.
    whole: Text,
    /// When another whole text was written last. To save the same text again, slowly, is no edit.
    pub(crate) written_at: Micros,
    /// The text that was taken last, and when.
    pub(crate) taken: Option<(FoundText, Micros)>,
    /// The text that was submitted last, whatever became of it; for a planted bug.
    pub(crate) submitted: Option<String>,
}

impl Default for HostFile {
    fn default() -> Self {
        let text = Text::Whole(0);
        Self { text, whole: text, written_at: 0, taken: None, submitted: None }
    }
}

/// All of them, by node.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) hosts: Vec<RefCell<HostFile>>,
    rng: RefCell<Rng>,
}

impl Files {
    pub(crate) fn new(seed: u64, n_nodes: usize) -> Self {
        let hosts = (0..n_nodes).map(|_| RefCell::default()).collect();
        Self { hosts, rng: RefCell::new(Rng::new(seed, "files")) }
    }
}

/// Returns what a text says.
pub(crate) fn content(world: &World, text: Text) -> Config {
    match text {
        Text::Whole(idx) => world.scene.configs[idx].clone(),
        Text::Cut(idx) => {
            // The targets come first, as in most files; all that follows them is missing.
            let mut targets = world.scene.configs[idx].targets.clone();
            targets.truncate(targets.len().div_ceil(2));
            for n in 0..targets.len() {
                let known: Vec<_> = targets.iter().map(|it| it.name.clone()).collect();
                targets[n].depends_on.retain(|it| known.contains(it));
            }
            Config { targets, ..Config::default() }
        }
    }
}

pub(crate) fn sha256(text: Text) -> String {
    sha256_hex(format!("{text:?}").as_bytes())
}

/// Edits the files: each host's, or only some.
pub(crate) fn edit(world: &Rc<World>) {
    if !world.options.has(Part::Changes) || !world.net.is_rough.get() {
        return;
    }
    let mut rng = world.files.rng.borrow_mut();
    let idx = rng.index(world.scene.configs.len());
    let everywhere = rng.percent(60);
    for node in world.all(Kind::Supervisor) {
        if !everywhere && rng.percent(50) {
            continue;
        }
        if rng.percent(40) {
            // The writer pauses in the middle.
            write(world, node, Text::Cut(idx));
            let pause = rng.range(200, 5000) * MS;
            world.sim.after(pause, move |world| write(world, node, Text::Whole(idx)));
        } else {
            write(world, node, Text::Whole(idx));
        }
    }
    let is_confirmed = rng.percent(50);
    let soon = rng.range(15, 90) * SECOND;
    drop(rng);
    if is_confirmed {
        world.sim.after(soon, move |world| people::apply(world, idx));
    }
}

fn write(world: &Rc<World>, node: NodeId, text: Text) {
    let now = world.sim.now();
    world.trace.say(now, || format!("file of node {node}: {text:?}"));
    let mut file = world.files.hosts[node].borrow_mut();
    file.text = text;
    if matches!(text, Text::Whole(_)) && file.whole != text {
        (file.whole, file.written_at) = (text, now);
    }
    drop(file);
    world.node(node).file_changed.notify_waiters();
}
