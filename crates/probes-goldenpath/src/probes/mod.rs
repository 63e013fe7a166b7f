//! The probes of phase 4. A file is one probe; its module page is the user's page.

pub mod availability;
pub mod login_to_response;
pub mod offline_impact;
pub mod recovery;
pub mod websocket_close;
