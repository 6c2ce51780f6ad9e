use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bus::{AppendError, Bus, Error, LedgerItem, testing::Broker};
use domain::wire::{InputKind, WorkKind};
use tokio::time::timeout;

use crate::{connected, eventually, ids, input};

/// Kills in one test.
const N_KILLS: usize = 4;

const WAIT: Duration = Duration::from_secs(20);

/// Submits one input after the other until told to stop; returns where each was accepted.
async fn keep_submitting(
    bus: Bus,
    sender: usize,
    stop: Arc<AtomicBool>,
) -> Vec<(String, u64, u32)> {
    let writer = bus.inbox_writer();
    let mut accepted = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{sender}-{n}");
        // Not accepted is an honest answer; accepted must be true.
        if let Ok(stored) = writer.submit(InputKind::Timer, input(&id)).await {
            accepted.push((id, stored.position.seq, stored.position.idx));
        }
    }
    accepted
}

/// Goal: what was accepted is read exactly once, in one order, by a reader that never was
/// told of the outages. Method: kill the broker under load, compare numbers at the end.
#[tokio::test]
async fn kill_9_of_the_broker_loses_no_accepted_input_and_the_reader_sees_each_once_in_order() {
    let mut broker = Broker::start().await;
    let supervisor = broker.bus().await.unwrap();
    let mut reader = supervisor.read_inbox(0).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    for sender in 0..4 {
        let bus = broker.connect().await.unwrap();
        senders.push(tokio::spawn(keep_submitting(bus, sender, Arc::clone(&stop))));
    }
    let mut read: Vec<(u64, Vec<String>)> = Vec::new();
    for _ in 0..N_KILLS {
        // Each time something new must have come before the broker dies again.
        let target = read.len() + 20;
        while read.len() < target {
            let batch = timeout(WAIT, reader.next_batch(7, WAIT)).await.unwrap().unwrap();
            read.extend(batch.iter().map(|message| (message.seq, ids(message))));
        }
        broker.restart().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut accepted = Vec::new();
    for sender in senders {
        accepted.extend(sender.await.unwrap());
    }
    let last = accepted.iter().map(|(_, seq, _)| *seq).max().unwrap();
    while read.last().is_none_or(|(seq, _)| *seq < last) {
        let batch = reader.next_batch(100, WAIT).await.unwrap();
        assert!(!batch.is_empty(), "the reader stopped at {:?} of {last}", read.last());
        read.extend(batch.iter().map(|message| (message.seq, ids(message))));
    }
    for (n, (seq, _)) in (1..).zip(&read) {
        assert_eq!(n, *seq, "the reader left out or repeated a message");
    }
    let mut count = HashMap::<&str, usize>::new();
    for id in read.iter().flat_map(|(_, ids)| ids) {
        *count.entry(id).or_default() += 1;
    }
    for (id, seq, idx) in &accepted {
        let stored = &read[usize::try_from(*seq).unwrap() - 1].1[usize::try_from(*idx).unwrap()];
        assert_eq!(stored, id, "another input stands where {id} was accepted");
        assert_eq!(count[id.as_str()], 1, "{id} is stored more than once");
    }
    assert!(100 < accepted.len(), "only {} inputs", accepted.len());
}

#[tokio::test]
async fn kill_9_of_the_broker_neither_loses_nor_repeats_an_append() {
    let mut broker = Broker::start().await;
    let (leader, standby) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let ledger = leader.ledger();
    let appending = tokio::spawn(async move {
        let mut end = 0;
        while !stopped.load(Ordering::Relaxed) {
            match ledger.append(end, (end + 1).to_string().into(), &[]).await {
                Ok(seq) => {
                    assert_eq!(seq, end + 1);
                    end = seq;
                }
                // Longer away than we try: then nobody may guess, the caller looks again.
                Err(AppendError::Unknown { .. }) => end = ledger.last_seq().await.unwrap(),
                Err(error) => panic!("{error:?}"),
            }
        }
        end
    });
    let mut reader = standby.ledger().read(0);
    let mut last = 0;
    for round in 1..=N_KILLS {
        while last < 50 * u64::try_from(round).unwrap() {
            last = next(&mut reader, last).await;
        }
        broker.restart().await;
    }
    stop.store(true, Ordering::Relaxed);
    let end = appending.await.unwrap();
    while last < end {
        last = next(&mut reader, last).await;
    }
    assert_eq!(leader.ledger().last_seq().await.unwrap(), end);
}

async fn next(reader: &mut bus::LedgerReader, last: u64) -> u64 {
    match timeout(WAIT, reader.next()).await.unwrap().unwrap() {
        LedgerItem::CaughtUp => last,
        LedgerItem::Foreign(it) => panic!("{it:?}"),
        LedgerItem::Message(message) => {
            assert_eq!(message.seq, last + 1);
            assert_eq!(message.payload, message.seq.to_string());
            message.seq
        }
    }
}

#[tokio::test]
async fn work_goes_on_when_the_broker_forgot_its_queues() {
    let mut broker = Broker::start().await;
    let (supervisor, hand) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let mut made = supervisor.work_made();
    let mut worker = hand.work().consume(WorkKind::Fix, &["default".to_owned()], 2);
    let wish = |n: usize| (n.to_string(), bytes::Bytes::from(n.to_string()));
    for n in 0..3 {
        let (id, payload) = wish(n);
        made.mark_unchanged();
        supervisor.work().publish(WorkKind::Fix, "default", &id, payload.clone()).await.unwrap();
        let job = timeout(WAIT, worker.next()).await.unwrap();
        assert_eq!(job.payload, payload);
        // The broker dies before the work is acknowledged, and forgets it.
        broker.restart().await;
        timeout(WAIT, made.changed()).await.expect("a supervisor hears of it").unwrap();
        supervisor.work().publish(WorkKind::Fix, "default", &id, payload.clone()).await.unwrap();
        let again = timeout(WAIT, worker.next()).await.unwrap();
        assert_eq!(again.payload, payload);
        job.ack().await;
        again.ack().await;
    }
}

#[tokio::test]
async fn a_broker_that_lost_its_disk_is_told_and_not_read_on() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    for n in 0..3 {
        writer.submit(InputKind::Timer, input(&n.to_string())).await.unwrap();
    }
    let mut reader = bus.read_inbox(0).await.unwrap();
    let mut n_read = 0;
    while n_read < 3 {
        n_read += reader.next_batch(3, WAIT).await.unwrap().len();
    }
    broker.kill();
    std::fs::remove_dir_all(broker.dir().join("store")).unwrap();
    broker.restart().await;
    connected(&bus).await;
    let read_on = async {
        loop {
            match reader.next_batch(3, WAIT).await {
                Ok(batch) => assert!(batch.is_empty(), "{batch:?}"),
                Err(error) => break error,
            }
        }
    };
    let error = timeout(WAIT, read_on).await.expect("the loss is told");
    assert!(matches!(error, Error::LogLost { last: 0, read: 3, .. }), "{error}");
    assert!(error.hint().unwrap().contains("restore"));
}

#[tokio::test]
async fn a_reader_whose_next_message_was_purged_is_told() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    for n in 0..5 {
        writer.submit(InputKind::Timer, input(&n.to_string())).await.unwrap();
    }
    bus.forget_inbox(3).await.unwrap();
    let mut behind = bus.read_inbox(1).await.unwrap();
    let error = behind.next_batch(3, WAIT).await.unwrap_err();
    assert!(matches!(error, Error::LogPurged { first: 4, wanted: 2, .. }), "{error}");
    let mut in_time = bus.read_inbox(3).await.unwrap();
    assert_eq!(in_time.next_batch(1, WAIT).await.unwrap()[0].seq, 4);
}

#[tokio::test]
async fn subscriptions_and_services_stand_again_after_a_restart() {
    let mut broker = Broker::start().await;
    let (supervisor, cli) = (broker.connect().await.unwrap(), broker.connect().await.unwrap());
    let subject = cli.subjects().query("echo");
    let serve =
        supervisor.serve(subject.clone(), "all", |request| async move { Ok(request.payload) });
    let _server = serve.await.unwrap();
    broker.restart().await;
    let answer = eventually("an answer after the restart", || {
        cli.request(subject.clone(), "again".into(), Duration::from_secs(1))
    })
    .await;
    assert_eq!(&answer[..], b"again");
}
