//! The backend: what a user talks to once logged in.

pub(crate) mod stand_in;
pub(crate) mod ws;
mod ws_conversation;
