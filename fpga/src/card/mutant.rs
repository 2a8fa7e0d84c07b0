//! Cards with one fault each.
use super::Conduct;
/// A fault.
pub struct Fault {
    /// Name.
    pub name: String,
}
/// All.
pub fn all() -> Vec<Fault> {
    vec![]
}
/// A card with a fault.
pub struct Mutant;
impl Mutant {
    /// New.
    pub fn new(_: &Fault) -> Self {
        Self
    }
}
impl Conduct for Mutant {}
