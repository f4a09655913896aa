//! Where a store has put a row.

/// Where a store has put a row, as the store itself counts: a hint, handed back with the next verb about the row, that
/// saves it a look into an index. It may be out of date or missing at any time, and only names and tokens decide. So it
/// says nothing about a row: two rows that differ in it alone are equal, and look alike.
#[derive(Clone, Copy, Default)]
pub struct Place(pub Option<u64>);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Place")
    }
}
