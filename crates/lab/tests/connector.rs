//! The connector's limits, as a plain client meets them.

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{PATIENCE, Way, climb, eventually, options, scenario, session, tmp};
use shakedown_lab::{HoldReason, Lab, Rate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn scale_out_lets_the_waiting_through() {
    let tmp = tmp();
    let scenario = scenario(
        "[connector]
         instances_min = 1
         instances_max = 2
         connections_per_instance = 2
         scaling_delay_min = \"10s\"
         scaling_delay_max = \"12s\"
         [[fault]]
         kind = \"connector-neighbour\"",
    );
    let lab = Lab::start(&options(tmp.path(), scenario, 10)).await.unwrap();
    assert_eq!((lab.truth().connector.neighbours, lab.truth().connector.held), (2, true));
    let client = timeout(PATIENCE, session(&lab, "waited")).await.unwrap();
    let connector = lab.truth().connector;
    assert_eq!(connector.scale_events.len(), 1, "it got through because of the second instance");
    assert_eq!((connector.instances, connector.capacity, connector.open), (2, 4, 3));
    assert_eq!(connector.holds[0].reason, HoldReason::Capacity);
    assert!(connector.holds[0].until_ms.unwrap() >= connector.scale_events[0].at_ms);
    if cfg!(target_os = "linux") {
        assert_eq!((connector.waiting, connector.waiting_max), (Some(0), Some(1)));
    }
    drop(client);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_ends_makes_room() {
    let tmp = tmp();
    let mut options = options(tmp.path(), scenario(""), 10);
    options.settings.connector.instances_min = 1;
    options.settings.connector.instances_max = 1;
    options.settings.connector.connections_per_instance = 1;
    let lab = Lab::start(&options).await.unwrap();
    let first = session(&lab, "first").await;
    eventually("the connector is full", || lab.truth().connector.held).await;
    let second = tokio::time::timeout(Duration::from_millis(500), session(&lab, "second")).await;
    assert!(second.is_err(), "no room for a second");
    drop(first);
    let third = timeout(PATIENCE, session(&lab, "third")).await.unwrap();
    assert!(lab.truth().connector.open <= 1);
    drop(third);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn throughput_is_capped() {
    let tmp = tmp();
    let mut options = options(tmp.path(), scenario(""), 1);
    options.settings.connector.throughput_min_mbps = 8.0;
    options.settings.connector.throughput_max_mbps = 8.0;
    let lab = Lab::start(&options).await.unwrap();
    let client = session(&lab, "bulk").await;
    let start = Instant::now();
    let row = client.query_one("select repeat('x', 1500000)", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0).len(), 1_500_000);
    // 1 MB/s, with a burst of 20 kB.
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    assert!(lab.truth().connector.bytes_to_client >= 1_500_000);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn connection_rate_is_limited() {
    let tmp = tmp();
    let mut options = options(tmp.path(), scenario(""), 1);
    options.settings.connector.connection_rate = Rate::per_second(2);
    let lab = Lab::start(&options).await.unwrap();
    let start = Instant::now();
    for _ in 0..5 {
        timeout(PATIENCE, session(&lab, "quick")).await.unwrap();
    }
    // Two at once, then one each half second.
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    assert_eq!(lab.truth().connector.holds[0].reason, HoldReason::Rate);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn resets_and_stalls() {
    let tmp = tmp();
    let scenario = scenario(
        "[[fault]]
         kind = \"connector-reset\"
         until = \"20s\"
         [[fault]]
         kind = \"connector-stall\"
         at = \"20s\"
         until = \"60s\"
         after_bytes = 20",
    );
    let lab = Lab::start(&options(tmp.path(), scenario, 10)).await.unwrap();
    let address = lab.addresses().connector;
    let mut client = tokio::net::TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(lab.truth().connector.rejected, 1);

    eventually("the stall begins", || lab.truth().faults.len() == 2).await;
    let mut client = tokio::net::TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    // An SSLRequest is within the 20 bytes, its answer too; the next one is not.
    let request = [0, 0, 0, 8, 4, 210, 22, 47];
    client.write_all(&request).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(&[0; 20]).await.unwrap();
    let stalled = timeout(Duration::from_millis(300), client.read_u8()).await;
    assert!(stalled.is_err() && lab.truth().faults[1].until_ms.is_none());
    let answer = timeout(PATIENCE, client.read_u8()).await.unwrap();
    assert!(lab.truth().faults[1].until_ms.is_some(), "goes on when the fault ends: {answer:?}");
    assert_eq!(climb(&lab, Way::Tcp).await, Ok(()));
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn faults_end() {
    let tmp = tmp();
    let scenario = scenario(
        "[[fault]]
         kind = \"connector-drop\"
         until = \"10s\"
         [[fault]]
         kind = \"database-refused\"
         until = \"20s\"
         [[fault]]
         kind = \"wrong-password\"
         until = \"25s\"
         [[fault]]
         kind = \"database-slots-held\"
         until = \"30s\"",
    );
    let lab = Lab::start(&options(tmp.path(), scenario, 10)).await.unwrap();
    let seen = climb(&lab, Way::Tcp).await.unwrap_err();
    assert_eq!((seen.rung, &*seen.error), ("connect", "refused"));
    eventually("all faults end", || {
        lab.truth().faults.iter().all(|fault| fault.until_ms.is_some())
    })
    .await;
    eventually("the slots are free", || lab.truth().postgres.sessions == 0).await;
    assert_eq!(climb(&lab, Way::Tcp).await, Ok(()));
    assert_eq!(climb(&lab, Way::Socket).await, Ok(()));
    assert_eq!(lab.truth().postgres.applications["shakedown-lab-neighbour"].max, 46);
    lab.stop().await.unwrap();
}
