//! The gRPC codes that are failures.

const OK: i32 = 0;
pub(super) const UNKNOWN: i32 = 2;
const UNAUTHENTICATED: i32 = 16;

/// A set of gRPC codes that are failures. `HttpClassifier::grpc_codes` explains the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailureCodes(u32);

impl FailureCodes {
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "read when a response is classified"))]
    pub(super) const fn contains(self, code: i32) -> bool {
        // A code outside the specification is read as UNKNOWN.
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

/// Ignores OK, which is never a failure.
impl FromIterator<i32> for FailureCodes {
    fn from_iter<I: IntoIterator<Item = i32>>(codes: I) -> Self {
        Self(codes.into_iter().fold(0, |bits, code| bits | 1 << code) & !1)
    }
}
