//! The log's disk is full: the loop goes on, and the lines are written later.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use tests::{
    eventually,
    stack::directory,
    supervisor::{Supervisor, log, publish, status},
};

#[tokio::test]
async fn a_full_disk_stops_nothing_and_loses_no_line() {
    let dir = directory("disk-full");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let supervisor = Supervisor::on_small_disk(&broker, &dir, 256);
    assert_eq!(publish(&bus, "before").await.status, AnswerStatus::IncidentOpened);

    // Its disk, as it sees it.
    let disk =
        std::path::PathBuf::from(format!("/proc/{}/root{}", supervisor.pid(), dir.display()));
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 240 * 1024]).unwrap_or_default();
    let mut n = 0;
    let lag = eventually("lines wait for the disk", || {
        n += 1;
        let (bus, id) = (bus.clone(), format!("during-{n}"));
        async move {
            // Answered all the same: the decision is in the ledger.
            publish(&bus, &id).await;
            let lag = status(&bus).await?.log_lag;
            if 0 < lag { Ok(lag) } else { Err(format!("{lag}")) }
        }
    })
    .await;
    assert!(0 < lag);
    assert_eq!(publish(&bus, "still").await.status, AnswerStatus::IncidentOpened);

    std::fs::remove_file(&ballast).unwrap();
    eventually("all lines are there, and people were told", || async {
        let view = status(&bus).await?;
        let lines = log(&disk);
        let whole = lines.iter().zip(1..).all(|(line, seq)| line.seq == seq);
        let told = lines.iter().any(|it| it.incident_type == "selfheal.log_unwritable");
        let all = u64::try_from(lines.len()).unwrap_or(0) == view.n_decisions;
        if whole && told && all && view.log_lag == 0 {
            Ok(())
        } else {
            Err(format!("{whole} {told} {} of {}", lines.len(), view.n_decisions))
        }
    })
    .await;
}
