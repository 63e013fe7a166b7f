//! Supervises a lab's PostgreSQL for this crate's tests: started by the lab, of no use by hand.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shakedown_lab::LabError> {
    shakedown_lab::supervise().await
}
