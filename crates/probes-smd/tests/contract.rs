//! What every crate of probes must keep.

shakedown_testkit::contract!(shakedown_probes_smd);
