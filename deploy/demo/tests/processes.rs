//! The two services as people and agents meet them: real processes, killed and started again.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STORE: &str = env!("CARGO_BIN_EXE_demo-store");
const SHOP: &str = env!("CARGO_BIN_EXE_demo-shop");
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that ends with the test.
struct Process(Child);

impl Process {
    /// Starts the command with nobody reading its output.
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || {
            let ended = self.0.try_wait().unwrap();
            async move { ended.ok_or_else(|| "it runs".to_owned()) }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        match look().await {
            Ok(seen) => return seen,
            Err(last) => assert!(start.elapsed() < PATIENCE, "not within 10 s: {what}; {last}"),
        }
    }
}

/// Sends one request and returns the status line and the body.
async fn http(address: &str, request: &str, body: &str) -> Result<(String, String), String> {
    let head = format!(
        "{request} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), talk)
        .await
        .map_err(|_late| "no answer within 1 s".to_owned())?
        .map_err(|error| error.to_string())?;
    let (status, rest) = answer.split_once("\r\n").ok_or("no status line")?;
    let (_, body) = rest.split_once("\r\n\r\n").ok_or("no body")?;
    Ok((status.to_owned(), body.to_owned()))
}

async fn health_is(address: &str, status: &str) -> String {
    eventually(&format!("/health answers {status}"), || async {
        let (line, body) = http(address, "GET /health", "").await?;
        if line.contains(status) { Ok(body) } else { Err(format!("{line}: {body}")) }
    })
    .await
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("demo-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn store(address: &str, dir: &Path) -> Command {
    let mut command = Command::new(STORE);
    command.args(["--listen", address, "--data"]).arg(dir.join("store.aof"));
    command.arg("--starts-file").arg(dir.join("starts"));
    command
}

fn shop(address: &str, store: &str) -> Command {
    let mut command = Command::new(SHOP);
    command.args(["--listen", address, "--store", store, "--faults"]);
    command
}

#[tokio::test]
async fn the_shop_is_healthy_only_with_its_store_and_orders_survive_kill_9() {
    let dir = directory("survive");
    let (store_at, shop_at) = (free_address(), free_address());
    let mut database = Process::start(&mut store(&store_at, &dir));
    let mut shop = Process::start(&mut shop(&shop_at, &store_at));
    health_is(&shop_at, "200").await;
    let (status, body) =
        http(&shop_at, "POST /orders", r#"{"sku":"tea","quantity":2}"#).await.unwrap();
    assert!(status.contains("201") && body.contains("\"total_cents\":840"), "{status} {body}");

    database.signal("-KILL");
    database.ended().await;
    let reason = health_is(&shop_at, "503").await;
    assert!(reason.contains(&store_at), "{reason}");

    let mut fixed = store(&store_at, &dir);
    fixed.env("SELFHEAL_INCIDENT", "0199-4c").env("SELFHEAL_ATTEMPT", "1");
    let mut database = Process::start(&mut fixed);
    health_is(&shop_at, "200").await;
    let (status, body) = http(&shop_at, "GET /orders/1", "").await.unwrap();
    assert!(status.contains("200") && body.contains("\"quantity\":2"), "{status} {body}");
    let (_, body) = http(&shop_at, "GET /products", "").await.unwrap();
    assert!(body.contains("\"sold\":1"), "{body}");

    let starts = std::fs::read_to_string(dir.join("starts")).unwrap();
    let starts: Vec<&str> = starts.lines().collect();
    assert_eq!(starts.len(), 2, "{starts:?}");
    assert!(starts[0].contains("\"incident\":null"), "{starts:?}");
    assert!(starts[1].contains("\"incident\":\"0199-4c\""), "{starts:?}");
    assert!(starts[1].contains("\"attempt\":\"1\""), "{starts:?}");

    for process in [&mut database, &mut shop] {
        process.signal("-TERM");
        assert!(process.ended().await.success());
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_hung_shop_does_not_answer_but_still_ends_on_sigterm() {
    let shop_at = free_address();
    let mut shop = Process::start(&mut shop(&shop_at, &free_address()));
    health_is(&shop_at, "503").await;
    http(&shop_at, "POST /faults/hang", "").await.unwrap();
    assert_eq!(http(&shop_at, "GET /health", "").await.unwrap_err(), "no answer within 1 s");
    shop.signal("-TERM");
    assert!(shop.ended().await.success());
}

#[tokio::test]
async fn faults_on_demand_end_the_store_with_their_exit_codes() {
    let dir = directory("faults");
    for (fault, code) in [(["--crash-after-ms", "50"].as_slice(), 70), (&["--fail-start"], 1)] {
        let mut store = Process::start(store(&free_address(), &dir).args(fault));
        assert_eq!(store.ended().await.code(), Some(code), "{fault:?}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
