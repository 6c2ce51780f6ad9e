//! One thread, virtual time: tasks of nodes, timers, and nodes that die between two polls.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{clock::Micros, world::World};

pub(crate) type NodeId = usize;

/// What lies outside of all processes: targets, people, the network itself. It never dies.
pub(crate) const OUTSIDE: NodeId = 0;

type Boxed = Pin<Box<dyn Future<Output = ()>>>;
type Run = Box<dyn FnOnce(&Rc<World>)>;

struct Task {
    node: NodeId,
    future: Option<Boxed>,
    bell: Arc<Bell>,
}

/// Wakes a task.
struct Bell {
    id: usize,
    is_queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<Arc<Self>>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            let ready = Arc::clone(&self.ready);
            ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(self);
        }
    }
}

enum What {
    Wake(Waker, Rc<Cell<bool>>),
    Run(Run),
}

struct Timer {
    at: Micros,
    order: u64,
    what: What,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The scheduler.
#[derive(Default)]
pub(crate) struct Sim {
    now: Cell<Micros>,
    order: Cell<u64>,
    n_steps: Cell<u64>,
    timers: RefCell<BinaryHeap<Reverse<Timer>>>,
    ready: Arc<Mutex<VecDeque<Arc<Bell>>>>,
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<usize>>,
    /// Wakes of nodes that are stopped, until they are continued.
    stalled: RefCell<Vec<(NodeId, Arc<Bell>)>>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Sim {
    pub(crate) fn now(&self) -> Micros {
        self.now.get()
    }

    pub(crate) fn n_steps(&self) -> u64 {
        self.n_steps.get()
    }

    /// Starts a task of a node; it ends with the node.
    pub(crate) fn spawn(&self, node: NodeId, future: impl Future<Output = ()> + 'static) {
        let id = self.free.borrow_mut().pop();
        let mut tasks = self.tasks.borrow_mut();
        let id = id.unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let ready = Arc::clone(&self.ready);
        let bell = Arc::new(Bell { id, is_queued: AtomicBool::new(false), ready });
        let task = Task { node, future: Some(Box::pin(future)), bell: Arc::clone(&bell) };
        tasks[id] = Some(task);
        bell.wake();
    }

    /// Does something at a time.
    pub(crate) fn at(&self, at: Micros, run: impl FnOnce(&Rc<World>) + 'static) {
        self.push(at, What::Run(Box::new(run)));
    }

    pub(crate) fn after(&self, wait: Micros, run: impl FnOnce(&Rc<World>) + 'static) {
        self.at(self.now() + wait, run);
    }

    fn push(&self, at: Micros, what: What) {
        let order = self.order.get() + 1;
        self.order.set(order);
        let at = at.max(self.now());
        self.timers.borrow_mut().push(Reverse(Timer { at, order, what }));
    }

    /// Waits, in true time.
    pub(crate) fn sleep(world: &Rc<World>, wait: Micros) -> Sleep {
        let at = world.sim.now() + wait;
        Sleep { world: Rc::clone(world), at, is_gone: Rc::new(Cell::new(false)), is_set: false }
    }

    /// Ends all tasks of a node, without letting them do anything more.
    pub(crate) fn kill(&self, node: NodeId) {
        let mut dead = Vec::new();
        for (id, place) in self.tasks.borrow_mut().iter_mut().enumerate() {
            if place.as_ref().is_some_and(|task| task.node == node) {
                dead.extend(place.take());
                self.free.borrow_mut().push(id);
            }
        }
        self.stalled.borrow_mut().retain(|(stalled, _)| *stalled != node);
        drop(dead);
    }

    /// Lets a node go on that was stopped.
    pub(crate) fn resume(&self, node: NodeId) {
        let (awake, stalled): (Vec<_>, Vec<_>) =
            self.stalled.take().into_iter().partition(|(it, _)| *it == node);
        *self.stalled.borrow_mut() = stalled;
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.extend(awake.into_iter().map(|(_, bell)| bell));
    }

    /// Runs until a time, or until the world has failed.
    pub(crate) fn run(world: &Rc<World>, until: Micros) {
        let sim = &world.sim;
        loop {
            while let Some(bell) = sim.next_ready() {
                sim.poll(world, &bell);
                if world.has_failed() {
                    return;
                }
            }
            let due = sim.timers.borrow().peek().is_some_and(|it| it.0.at <= until);
            let timer = if due { sim.timers.borrow_mut().pop() } else { None };
            let Some(Reverse(timer)) = timer else {
                sim.now.set(until);
                return;
            };
            sim.now.set(timer.at);
            sim.n_steps.set(sim.n_steps.get() + 1);
            match timer.what {
                What::Wake(waker, is_gone) => {
                    if !is_gone.get() {
                        waker.wake();
                    }
                }
                What::Run(run) => run(world),
            }
            if world.has_failed() {
                return;
            }
        }
    }

    fn next_ready(&self) -> Option<Arc<Bell>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn poll(&self, world: &Rc<World>, bell: &Arc<Bell>) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks[bell.id].as_mut().filter(|task| Arc::ptr_eq(&task.bell, bell));
            let Some(task) = task else { return };
            if world.is_paused(task.node) {
                self.stalled.borrow_mut().push((task.node, Arc::clone(bell)));
                return;
            }
            bell.is_queued.store(false, Ordering::Relaxed);
            task.future.take().map(|future| (task.node, future))
        };
        let Some((node, mut future)) = taken else { return };
        let waker = Waker::from(Arc::clone(bell));
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let gone = {
            let mut tasks = self.tasks.borrow_mut();
            let place = tasks[bell.id].as_mut().filter(|task| Arc::ptr_eq(&task.bell, bell));
            match place {
                Some(task) if !done => {
                    task.future = Some(future);
                    None
                }
                Some(_) => {
                    let task = tasks[bell.id].take();
                    self.free.borrow_mut().push(bell.id);
                    Some((task, Some(future)))
                }
                None => Some((None, Some(future))),
            }
        };
        drop(gone);
        world.reap(node);
    }

    /// Forgets everything, so that the world can be dropped.
    pub(crate) fn clear(&self) {
        let tasks = self.tasks.take();
        drop(tasks);
        let timers = self.timers.take();
        drop(timers);
        self.stalled.borrow_mut().clear();
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A wait.
pub(crate) struct Sleep {
    world: Rc<World>,
    at: Micros,
    is_gone: Rc<Cell<bool>>,
    is_set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.world.sim.now() {
            return Poll::Ready(());
        }
        if !self.is_set {
            self.is_set = true;
            let what = What::Wake(cx.waker().clone(), Rc::clone(&self.is_gone));
            self.world.sim.push(self.at, what);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.is_gone.set(true);
    }
}
