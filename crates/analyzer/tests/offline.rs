//! Diagnosis needs no socket: the classifiers' crates without their default features link no
//! database driver and no TLS.

use std::process::Command;

#[test]
fn classifiers_link_no_database_and_no_tls() {
    for package in [
        "shakedown-probes-vpc",
        "shakedown-probes-cloudsql",
        "shakedown-probes-smd",
        "shakedown-probes-goldenpath",
        "shakedown-analyzer",
    ] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--no-default-features", "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}", "--package", package])
            .output()
            .expect("cargo tree");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout);
        assert!(tree.contains("shakedown-core"), "{tree}");
        for banned in
            ["tokio-postgres", "sqlx", "rustls", "ring", "openssl", "hyper", "shakedown-wire"]
        {
            let found = tree.lines().find(|line| line.split(' ').next() == Some(banned));
            assert_eq!(found, None, "{package} links {banned}");
        }
    }
}
