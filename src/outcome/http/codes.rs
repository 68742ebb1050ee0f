//! The gRPC codes that are failures.

const OK: i32 = 0;
pub(super) const UNKNOWN: i32 = 2;
const UNAUTHENTICATED: i32 = 16;

/// The gRPC codes that count as failures of the backend. Which by default, and why, is told at
/// [`HttpClassifier::grpc_codes`](super::HttpClassifier::grpc_codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailureCodes(u32);

impl FailureCodes {
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "asked of responses"))]
    pub(super) const fn contains(self, code: i32) -> bool {
        // What no specification knows is to be read as UNKNOWN.
        let code = if code < OK || code > UNAUTHENTICATED { UNKNOWN } else { code };
        self.0 >> code & 1 == 1
    }
}

impl Default for FailureCodes {
    /// UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    fn default() -> Self {
        Self::from_iter([UNKNOWN, 4, 8, 13, 14, 15])
    }
}

/// OK is left out: it is never a failure.
impl FromIterator<i32> for FailureCodes {
    fn from_iter<I: IntoIterator<Item = i32>>(codes: I) -> Self {
        Self(codes.into_iter().fold(0, |bits, code| bits | 1 << code) & !1)
    }
}
