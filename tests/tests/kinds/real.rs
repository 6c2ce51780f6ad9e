//! The same with programs that many people run. `.ci/partners.sh` installs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use domain::wire::FixOutcome;
use rustix::process::Signal;
use tests::eventually;

use crate::{Case, gone, kill};

/// Returns a program of the packages that `.ci/partners.sh` installs.
fn program(path: &str) -> String {
    assert!(Path::new(path).exists(), "there is no {path}: run .ci/partners.sh, which installs it");
    path.to_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|it| (*it).to_owned()).collect()
}

/// Returns what a pid file holds, and when it was written.
fn state_of(path: &Path) -> (String, SystemTime) {
    let written = fs::metadata(path).unwrap().modified().unwrap();
    (fs::read_to_string(path).unwrap(), written)
}

/// Returns the process that a pid file names, once it lives and answers.
async fn up(case: &Case, but: Option<i32>) -> i32 {
    let path = case.file("own.pid");
    eventually("the program is up", || async {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let pid: Option<i32> = text.split_whitespace().next().and_then(|it| it.parse().ok());
        let pid = pid.filter(|it| Some(*it) != but && crate::is_alive(*it) && case.answers());
        pid.ok_or_else(|| (text, fs::read_to_string(case.file("run/shop.log"))))
    })
    .await
}

/// Starts, restarts and kills it; each time there is one, known by its own pid file, which
/// nobody else writes.
async fn goes_through_it_all(case: Case) {
    assert_eq!(case.restart().await, FixOutcome::Succeeded);
    let first = up(&case, None).await;
    case.is_seen_alive(first).await;

    assert_eq!(case.restart().await, FixOutcome::Succeeded);
    let second = up(&case, Some(first)).await;
    assert!(!crate::is_alive(first), "there are two");
    case.is_seen_alive(second).await;

    kill(second, Signal::KILL);
    gone(second).await;
    case.is_seen_dead().await;
    assert_eq!(case.restart().await, FixOutcome::Succeeded);
    let third = up(&case, Some(second)).await;
    case.is_seen_alive(third).await;

    // What it has written is still there when a fixer would have written its own.
    // PostgreSQL itself writes into it until it is ready.
    let before = eventually("it has written all of its pid file", || async {
        let state = state_of(&case.file("own.pid"));
        let is_whole = state.0.lines().count() <= 1 || state.0.contains("ready");
        if is_whole { Ok(state) } else { Err(state) }
    })
    .await;
    case.is_seen_alive(third).await;
    case.settled().await;
    assert_eq!(state_of(&case.file("own.pid")), before, "its pid file was touched");
    assert!(crate::is_alive(third));
}

#[tokio::test]
async fn postgresql_keeps_its_lock_file_and_is_restarted() {
    let bin = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bin: Option<PathBuf> = bin.map(|it| it.path().join("bin")).next();
    let bin = bin.expect("there is no /usr/lib/postgresql: run .ci/partners.sh");
    let case = Case::of(|place, port| {
        let data = format!("{place}/data");
        fs::create_dir(&data).unwrap();
        // It refuses to be run by root.
        let as_user: &[&str] = if rustix::process::geteuid().is_root() {
            assert!(
                Command::new("chown").args(["postgres", place, &data]).status().unwrap().success()
            );
            &["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        } else {
            &["/usr/bin/env"]
        };
        let (initdb, postgres) = (bin.join("initdb"), bin.join("postgres"));
        let made = Command::new(as_user[0])
            .args(&as_user[1..])
            .arg(initdb)
            .args(["-D", &data, "-A", "trust", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Its lock file is its pid file.
        std::os::unix::fs::symlink(format!("{data}/postmaster.pid"), format!("{place}/own.pid"))
            .unwrap();
        let mut command = words(as_user);
        command.extend(words(&[postgres.to_str().unwrap(), "-D", &data]));
        command.extend(words(&["-p", &port.to_string(), "-k", &data, "-h", "127.0.0.1"]));
        (command, format!("{data}/postmaster.pid"))
    });
    goes_through_it_all(case).await;
}

#[tokio::test]
async fn redis_in_the_background_is_known_by_its_pid_file() {
    let case = Case::of(|place, port| {
        let pid_file = format!("{place}/own.pid");
        let command = [
            &program("/usr/bin/redis-server"),
            "--port",
            &port.to_string(),
            "--daemonize",
            "yes",
            "--pidfile",
            &pid_file,
            "--dir",
            place,
        ];
        (words(&command), pid_file)
    });
    goes_through_it_all(case).await;
}

#[tokio::test]
async fn nginx_with_workers_that_survive_their_master_is_started_again() {
    let case = Case::of(|place, port| {
        let pid_file = format!("{place}/own.pid");
        let conf = format!(
            "pid {pid_file};\nerror_log {place}/error.log;\nworker_processes 2;\nuser root;\nevents {{}}\nhttp {{\n access_log off;\n server {{ listen 127.0.0.1:{port}; }}\n}}\n"
        );
        fs::write(format!("{place}/nginx.conf"), conf).unwrap();
        let command = words(&[
            &program("/usr/sbin/nginx"),
            "-p",
            place,
            "-c",
            &format!("{place}/nginx.conf"),
        ]);
        (command, pid_file)
    });
    goes_through_it_all(case).await;
}

#[tokio::test]
async fn gunicorn_with_master_and_workers_is_restarted() {
    let case = Case::of(|place, port| {
        let pid_file = format!("{place}/own.pid");
        let app = "def app(environ, start):\n    start('200 OK', [])\n    return [b'fine']\n";
        fs::write(format!("{place}/shop.py"), app).unwrap();
        let command = [
            &program("/usr/bin/gunicorn"),
            "--chdir",
            place,
            "--pid",
            &pid_file,
            "--workers",
            "2",
            "--bind",
            &format!("127.0.0.1:{port}"),
            "shop:app",
        ];
        (words(&command), pid_file)
    });
    goes_through_it_all(case).await;
}
