//! The bus against the broker's container image, as compose and Kubernetes run it.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::time::Duration;

use async_nats::jetstream;
use bus::roles::Role;
use bus::{BrokerOptions, Bus};
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};
use tokio::sync::mpsc;

const IMAGE: (&str, &str) = ("nats", "2.15.1-alpine");
const PORT: u16 = 4222;

fn image() -> GenericImage {
    GenericImage::new(IMAGE.0, IMAGE.1)
        .with_exposed_port(PORT.tcp())
        .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
}

async fn start(request: ContainerRequest<GenericImage>) -> (ContainerAsync<GenericImage>, String) {
    let container = request.start().await.unwrap();
    let port = container.get_host_port_ipv4(PORT).await.unwrap();
    (container, format!("127.0.0.1:{port}"))
}

fn options(url: &str) -> BrokerOptions {
    BrokerOptions {
        url: format!("nats://{url}"),
        name: "selfheal-test".to_owned(),
        ..BrokerOptions::default()
    }
}

async fn connect(url: &str) -> Bus {
    let options = options(url);
    let connecting = bus::connect(&options);
    tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_container_takes_the_whole_topology_and_keeps_the_ledger() {
    let (_container, url) = start(image().with_cmd(["--jetstream"])).await;
    let bus = connect(&url).await;
    bus.ensure_topology().await.unwrap();
    let ledger = bus.ledger();
    let last = ledger.last_seq().await.unwrap();
    let next = ledger.append(last, bytes_of("one"), &[]).await.unwrap();
    assert_eq!(next, last + 1);
    // A second writer that starts from the same end is refused.
    ledger.append(last, bytes_of("two"), &[]).await.unwrap_err();
    assert_eq!(ledger.last_seq().await.unwrap(), next);
}

#[tokio::test]
async fn a_container_without_jetstream_is_refused_with_a_hint() {
    let (_container, url) = start(image().with_cmd(["--port", "4222"])).await;
    let options = options(&url);
    let connecting = bus::connect(&options);
    let refused = tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap();
    assert!(matches!(refused, Err(bus::Error::JetStreamOff { .. })), "{refused:?}");
}

fn bytes_of(text: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(text.as_bytes())
}

/// One user of `deploy/nats.conf`, and what the broker tells it.
struct User {
    js: jetstream::Context,
    violations: mpsc::UnboundedReceiver<String>,
}

impl User {
    async fn connect(address: &str, role: Role) -> Self {
        let (tell, violations) = mpsc::unbounded_channel();
        let name = role.as_str();
        let client =
            async_nats::ConnectOptions::with_user_and_password(name.into(), password(role))
                .custom_inbox_prefix(format!("_INBOX_{name}"))
                .event_callback(move |event| {
                    if let async_nats::Event::ServerError(error) = event {
                        // The test may have ended.
                        tell.send(error.to_string()).ok();
                    }
                    std::future::ready(())
                })
                .connect(address)
                .await
                .unwrap();
        Self { js: jetstream::new(client), violations }
    }

    /// Publishes and tells whether the broker stored it, or refused it for want of permission.
    async fn may_publish(&mut self, subject: &str) -> bool {
        let stored = self.js.publish(subject.to_owned(), bytes_of("{}")).await.unwrap();
        let told = async {
            tokio::select! {
                // Any other answer than an acknowledgement is no refusal.
                stored = stored => stored.map(|_ack| true).unwrap(),
                violation = self.violations.recv() => {
                    let violation = violation.unwrap();
                    assert!(violation.contains(subject), "{violation}");
                    false
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), told).await.unwrap()
    }
}

fn password(role: Role) -> String {
    format!("secret-of-{}", role.as_str())
}

/// What each user may publish, and some of what it may not.
const RIGHTS: [(Role, &[&str], &[&str]); 7] = [
    (
        Role::Publisher,
        &["selfheal.event.disk.full"],
        &[
            "selfheal.frame.event",
            "selfheal.command.pause",
            "selfheal.report.verification.i",
            "selfheal.ledger",
            "selfheal.work.fix.default",
            "selfheal.claim.i.1",
            "$JS.API.STREAM.PURGE.SELFHEAL_INBOX",
        ],
    ),
    // Who fixes does not say that it helped, and cannot order fixes.
    (
        Role::Fixer,
        &["selfheal.claim.i.1", "selfheal.frame.fix"],
        &[
            "selfheal.frame.verification",
            "selfheal.frame.event",
            "selfheal.frame.command",
            "selfheal.work.fix.default",
            "selfheal.ledger",
            "$KV.selfheal_config.active",
            "$KV.selfheal_lease.leader",
            "$JS.API.STREAM.DELETE.SELFHEAL_CLAIMS",
        ],
    ),
    (
        Role::Monitor,
        &["selfheal.frame.agent_event", "selfheal.frame.verification"],
        &["selfheal.frame.event", "selfheal.frame.fix", "selfheal.work.fix.default"],
    ),
    (
        Role::Analyzer,
        &["selfheal.frame.analysis"],
        &["selfheal.claim.i.2", "selfheal.work.fix.default", "selfheal.frame.command"],
    ),
    (
        Role::Gateway,
        &["selfheal.frame.event", "selfheal.frame.command", "selfheal.frame.notice"],
        &["selfheal.claim.i.2", "selfheal.work.fix.default", "selfheal.ledger"],
    ),
    (Role::Cli, &["selfheal.frame.command"], &["selfheal.claim.i.2", "selfheal.work.fix.default"]),
    (
        Role::Supervisor,
        // It withdraws an order by claiming its attempt before a fixer does.
        &[
            "selfheal.ledger",
            "selfheal.work.fix.default",
            "selfheal.frame.timer",
            "selfheal.claim.i.2",
        ],
        &["selfheal.event.disk.full", "selfheal.once.i.1", "selfheal.probe.default"],
    ),
];

#[tokio::test]
async fn each_user_may_publish_what_is_its_own_and_nothing_else() {
    let conf = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats.conf")).unwrap();
    let mut request = image()
        .with_copy_to("/etc/nats/selfheal.conf", conf)
        .with_cmd(["--config", "/etc/nats/selfheal.conf"]);
    for role in Role::ALL {
        let variable = format!("NATS_{}_PASSWORD", role.as_str().to_uppercase());
        request = request.with_env_var(variable, password(role));
    }
    let (_container, address) = start(request).await;
    let supervisor = format!("supervisor:{}@{address}", password(Role::Supervisor));
    let mut options = options(&supervisor);
    options.name = "selfheal-supervisor".to_owned();
    let bus = bus::connect(&options).await.unwrap();
    bus.ensure_topology().await.unwrap();

    for (role, allowed, refused) in RIGHTS {
        let mut user = User::connect(&address, role).await;
        for subject in allowed {
            assert!(user.may_publish(subject).await, "{role:?} may not publish {subject}");
        }
        for subject in refused {
            assert!(!user.may_publish(subject).await, "{role:?} may publish {subject}");
        }
    }
}
