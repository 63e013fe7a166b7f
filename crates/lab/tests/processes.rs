//! Labs in processes of their own, ended kindly and unkindly.

mod common;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{eventually, host, tmp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shakedown_lab::{
    Lab, LabError, LabSettings, Scenario, ServeRequest, ServedLab, TimeScale, status, sweep,
};

fn request(tmp: &Path) -> ServeRequest {
    let pg_bin = common::programs().postgres().parent().unwrap().to_owned();
    ServeRequest {
        backend: None,
        scenario: Scenario::healthy(),
        settings: LabSettings::default(),
        time_scale: TimeScale::new(10).unwrap(),
        pg_bin,
        tmp: tmp.into(),
        application: false,
    }
}

async fn served(tmp: &Path) -> ServedLab {
    ServedLab::start(&host(), &[OsString::from("lab-serve")], &request(tmp)).await.unwrap()
}

fn server_of(lab: &ServedLab) -> Pid {
    let file = std::fs::read_to_string(lab.ready().dir.join("pg/data/postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
}

fn pid_of(lab: &ServedLab) -> Pid {
    Pid::from_raw(lab.ready().pid.cast_signed())
}

fn parent_of(pid: Pid) -> Pid {
    let output = Command::new("ps").args(["-o", "ppid=", "-p", &pid.to_string()]).output().unwrap();
    Pid::from_raw(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

fn runs(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[tokio::test]
async fn two_labs_one_killed_one_stopped() {
    let tmp = tmp();
    let (one, two) = tokio::join!(served(tmp.path()), served(tmp.path()));
    let (server_one, server_two) = (server_of(&one), server_of(&two));
    assert_ne!(one.ready().dir, two.ready().dir);
    let mut found: Vec<_> =
        status(tmp.path()).into_iter().map(|lab| lab.info.unwrap().addresses).collect();
    assert_eq!(found.len(), 2);
    let (second, first) = (found.pop().unwrap(), found.pop().unwrap());
    assert!(first.connector != second.connector && first.postgres != second.postgres);

    kill(pid_of(&one), Signal::SIGKILL).unwrap();
    eventually("no server is left of the killed lab", || !runs(server_one)).await;
    assert!(runs(server_two));
    let dirs = |tmp: &Path| status(tmp).into_iter().map(|lab| lab.dir).collect::<Vec<_>>();
    assert_eq!(dirs(tmp.path()), [two.ready().dir.clone()]);
    assert_eq!(sweep(tmp.path()).await, [one.ready().dir.clone()]);
    assert!(runs(server_two), "a sweep spares the living");

    two.stop().await.unwrap();
    assert!(!runs(server_two));
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
}

/// The application's processes: children of the lab.
fn backends_of(lab: &ServedLab) -> Vec<Pid> {
    let output = Command::new("ps").args(["-e", "-o", "pid=,ppid=,args="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let parent = lab.ready().pid.to_string();
    let ours = |line: &&str| {
        line.split_whitespace().nth(1) == Some(&*parent) && line.contains("lab-backend")
    };
    let id = |line: &str| line.split_whitespace().next().unwrap().parse().unwrap();
    text.lines().filter(ours).map(|line| Pid::from_raw(id(line))).collect()
}

#[tokio::test]
async fn a_killed_lab_leaves_no_application_behind() {
    let tmp = tmp();
    let request = ServeRequest { application: true, ..request(tmp.path()) };
    let lab = ServedLab::start(&host(), &[OsString::from("lab-serve")], &request).await.unwrap();
    let backends = backends_of(&lab);
    assert_eq!(backends.len(), 2, "the backend and the auth service");
    kill(pid_of(&lab), Signal::SIGKILL).unwrap();
    eventually("no application is left", || backends.iter().all(|backend| !runs(*backend))).await;
    drop(lab);
    eventually("the lab is dead", || status(tmp.path()).is_empty()).await;
    sweep(tmp.path()).await;
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn sigterm_ends_it_cleanly() {
    let tmp = tmp();
    let lab = served(tmp.path()).await;
    let server = server_of(&lab);
    kill(pid_of(&lab), Signal::SIGTERM).unwrap();
    eventually("the directory is gone", || !lab.ready().dir.exists()).await;
    assert!(!runs(server));
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_without_supervisor_is_swept() {
    let tmp = tmp();
    let lab = served(tmp.path()).await;
    let server = server_of(&lab);
    // The supervisor first: else it would do its duty.
    kill(parent_of(server), Signal::SIGKILL).unwrap();
    kill(pid_of(&lab), Signal::SIGKILL).unwrap();
    assert!(runs(server), "it is an orphan now");
    let dir = lab.ready().dir.clone();
    drop(lab);
    eventually("the lab is dead", || status(tmp.path()).is_empty()).await;
    assert_eq!(sweep(tmp.path()).await, [dir]);
    assert!(!runs(server));
}

#[tokio::test]
async fn a_server_that_dies_ends_its_lab() {
    let tmp = tmp();
    let lab = served(tmp.path()).await;
    kill(server_of(&lab), Signal::SIGKILL).unwrap();
    eventually("the directory is gone", || !lab.ready().dir.exists()).await;
    assert!(matches!(lab.stop().await, Err(LabError::Serve(_))));
}

#[tokio::test]
async fn why_it_did_not_start_is_told() {
    let tmp = tmp();
    let request = ServeRequest { pg_bin: tmp.path().into(), ..request(tmp.path()) };
    let error =
        ServedLab::start(&host(), &[OsString::from("lab-serve")], &request).await.unwrap_err();
    assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing() {
    let tmp = tmp();
    let mut options = common::options(tmp.path(), Scenario::healthy(), 10);
    options.exe = "/bin/false".into();
    let error = Lab::start(&options).await.unwrap_err();
    assert!(matches!(error, LabError::ServerEnded { .. } | LabError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_that_is_interrupted_leaves_nothing() {
    let tmp = tmp();
    let started = || std::fs::read_dir(tmp.path()).unwrap().count() > 0;
    for milliseconds in [0, 200, 400, 600, 800] {
        let mut process =
            Command::new(host()).arg("lab-serve").stdin(Stdio::piped()).spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, "{}", serde_json::to_string(&request(tmp.path())).unwrap()).unwrap();
        eventually("it has begun", started).await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        drop(input);
        assert!(process.wait().unwrap().success());
        assert!(!started(), "something is left after {milliseconds} ms");
    }
}
