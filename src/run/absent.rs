//! Without the feature `aws` nothing is watched: a configuration with `<drain>` is refused before it comes here.

use std::path::PathBuf;

use crate::agent::Agent;
use crate::drain::Plan;
use crate::signal::Signals;

/// Nobody rings.
pub enum Ring {}

/// How a drain ended: none ever begins.
#[allow(dead_code, reason = "the run matches on it in both builds")]
pub enum After {
    /// See the build with `aws`.
    Wait,
    /// See the build with `aws`.
    StartAgain,
    /// See the build with `aws`.
    Exit,
    /// See the build with `aws`.
    Abort,
}

/// Cannot be made: there is no [`Plan`] without `aws`.
pub struct Termination(Plan);

impl Termination {
    /// Cannot be called.
    pub fn watch(plan: Plan) -> anyhow::Result<Termination> {
        Ok(Termination(plan))
    }

    /// Never completes.
    pub async fn rings(&mut self) -> anyhow::Result<Ring> {
        std::future::pending().await
    }

    /// Cannot be called.
    pub async fn drain(&mut self, _agent: &Agent, ring: Ring, _signals: &mut Signals) -> After {
        match ring {}
    }
}

/// Cannot be called.
pub async fn drain_here(_agent: &mut Agent, _plan: &Plan, _rehearse: bool) -> anyhow::Result<bool> {
    std::future::pending().await
}

/// Cannot be called.
pub fn socket(_plan: &Plan) -> PathBuf {
    PathBuf::new()
}

/// Prints nothing.
pub fn print(_line: &str) {}
