//! The JSON of the audit.

use serde::Serialize;
use utoipa::ToSchema;

use crate::centre::Audit;

/// What the audit has found. It goes on by itself; nothing is looked at for this answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Allocations that are held, each of which was looked at when it was recorded.
    checked: u64,
    /// The last walk over all of them, which finds what was missed then; null before the first.
    last_walk: Option<WalkView>,
    /// Must be empty.
    duplicates: Vec<DuplicateView>,
}

/// A walk over all that is held.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalkView {
    /// When it was through.
    ended_at: String,
    /// How long it took, a part with each tick.
    seconds: f64,
    /// Held allocations that it has seen.
    checked: u64,
}

/// A resource that more than one subscriber holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct DuplicateView {
    vrf: String,
    resource: String,
    /// `overlaps`: it lies in another one on record, or they meet. `refused`: an OLT has claimed it for one subscriber
    /// while another had it on record. `displaced`: two servers had taken two claims before they heard of each other.
    kind: &'static str,
    /// Who has it; on record is the first.
    holders: Vec<HolderView>,
}

/// One of the holders.
#[derive(Debug, Serialize, ToSchema)]
pub struct HolderView {
    subscriber_id: String,
    olt_id: String,
}

impl From<Audit> for AuditView {
    fn from(audit: Audit) -> Self {
        let duplicates = audit.duplicates.into_iter().map(|duplicate| DuplicateView {
            vrf: duplicate.place.vrf,
            resource: duplicate.place.resource.to_string(),
            kind: duplicate.kind.as_str(),
            holders: duplicate
                .holders
                .into_iter()
                .map(|(subscriber_id, olt_id)| HolderView {
                    subscriber_id,
                    olt_id,
                })
                .collect(),
        });
        Self {
            checked: audit.checked,
            last_walk: audit.walked.map(|walked| WalkView {
                ended_at: walked.at.to_string(),
                seconds: walked.took.as_secs_f64(),
                checked: walked.checked,
            }),
            duplicates: duplicates.collect(),
        }
    }
}
