//! A real process that hangs, is stopped, and tells its service manager how it does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bus::testing::Broker;
use rustix::process::{Pid, Signal, kill_process};

/// The example `stuck`, beside which this test lies.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("examples/stuck")
}

fn start(broker: &Broker, words: &[&str], socket: Option<&Path>) -> Child {
    let mut command = Command::new(program());
    command.args(["--nats-url", &broker.url(), "--stuck-after", "1s"]).args(words);
    if let Some(socket) = socket {
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "500000");
    }
    command.stderr(Stdio::piped()).spawn().unwrap()
}

fn listen(broker: &Broker) -> (UnixDatagram, PathBuf) {
    let path = broker.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (socket, path)
}

/// What is told next; `None` when nothing is within the socket's time.
fn heard(socket: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 256];
    match socket.recv(&mut buffer) {
        Ok(n) => Some(String::from_utf8_lossy(buffer.get(..n).unwrap()).into_owned()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            None
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn a_process_whose_tasks_hang_ends_with_70_and_says_why() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let ended = start(&broker, &["--hang"], None).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(70), "{told}");
    for words in ["no longer run", "threads=", "hint:"] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    drop(bus);
}

#[tokio::test]
async fn a_process_that_was_stopped_for_longer_than_it_may_hang_goes_on() {
    let broker = Broker::start().await;
    let _bus = broker.bus().await.unwrap();
    let (socket, path) = listen(&broker);
    let mut child = start(&broker, &[], Some(&path));
    let ready = std::iter::from_fn(|| heard(&socket)).any(|it| it.starts_with("READY=1"));
    assert!(ready, "the manager hears that it is ready");

    signal(&child, Signal::STOP);
    // What was sent before, and then nothing for three times as long as it may hang.
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let n_before = std::iter::from_fn(|| heard(&socket)).count();
    assert!(n_before < 10, "it was stopped");
    signal(&child, Signal::CONT);
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for _ in 0..8 {
        assert_eq!(heard(&socket).unwrap(), "WATCHDOG=1");
    }
    assert_eq!(child.try_wait().unwrap(), None, "it lives");

    signal(&child, Signal::TERM);
    let stopping = std::iter::from_fn(|| heard(&socket)).any(|it| it.starts_with("STOPPING=1"));
    assert!(stopping, "the manager hears that it stops");
    assert!(child.wait().unwrap().success());
}
