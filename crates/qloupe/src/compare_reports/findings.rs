//! Which findings are new, gone, or of another severity.

use crate::report::{Finding, Severity};

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingState {
    /// Only B has it.
    New,
    /// Only A has it.
    Gone,
    /// Both have it, with another severity in A.
    Was(Severity),
}

/// A finding that is not the same in both reports: as B has it, or as A had it where it is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingMove {
    /// What became of it.
    pub state: FindingState,
    /// The finding.
    pub finding: Finding,
}

/// Pairs findings by rule and layer; several of one rule at one layer are paired in their order.
pub(super) fn compare(a: &[Finding], b: &[Finding]) -> Vec<FindingMove> {
    let is_same = |x: &Finding, y: &Finding| x.id == y.id && x.layer == y.layer;
    let mut left: Vec<&Finding> = a.iter().collect();
    let mut moves = Vec::new();
    for finding in b {
        let state = match left.iter().position(|old| is_same(old, finding)) {
            Some(at) => {
                let old = left.remove(at);
                if old.severity == finding.severity {
                    continue;
                }
                FindingState::Was(old.severity)
            }
            None => FindingState::New,
        };
        moves.push(FindingMove {
            state,
            finding: finding.clone(),
        });
    }
    moves.extend(left.into_iter().map(|finding| FindingMove {
        state: FindingState::Gone,
        finding: finding.clone(),
    }));
    moves.sort_by_key(|moved| moved.finding.severity);
    moves
}
