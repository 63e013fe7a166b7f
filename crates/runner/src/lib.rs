//! Part of shakedown.
