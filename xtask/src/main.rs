//! Developer tasks of shakedown.

fn main() {}
