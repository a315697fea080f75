//! The JSON of the audit.

use serde::Serialize;
use utoipa::ToSchema;

use crate::centre::Audit;

/// What the audit has found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Allocations that were looked at.
    checked: u64,
    /// Must be empty.
    duplicates: Vec<DuplicateView>,
}

/// A resource that more than one subscriber holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct DuplicateView {
    vrf: String,
    resource: String,
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
            duplicates: duplicates.collect(),
        }
    }
}
