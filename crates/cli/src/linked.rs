//! The probe crates of this binary. A crate that is only named in `Cargo.toml` registers nothing:
//! the linker drops it unless something says its name.

#[cfg(feature = "probes")]
use {
    shakedown_probes_cloudsql as _, shakedown_probes_goldenpath as _, shakedown_probes_smd as _,
    shakedown_probes_vpc as _,
};
