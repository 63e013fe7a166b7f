//! The shakedown command line.
