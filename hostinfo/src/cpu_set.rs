//! Sets of CPU numbers in the kernel's list format: `0-3,8,10-11`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// CPU numbers above this are taken for damage, not for a machine (the kernel's own limit is 8192).
const CPU_ID_MAX: usize = 65_535;

/// A set of logical CPU numbers, as the kernel counts them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuSet(BTreeSet<usize>);

/// A CPU list that is not in the kernel's format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a CPU list: write numbers and ranges joined by commas, for example `0-3,8` (numbers up to 65535)"
)]
pub struct CpuSetError {
    /// What was read.
    pub text: String,
}

impl CpuSet {
    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// How many CPUs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// Those in both sets.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.intersection(&other.0).copied().collect())
    }

    /// Those in either set.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.union(&other.0).copied().collect())
    }

    /// Those of this set that are not in `other`.
    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        CpuSet(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let wrong = || CpuSetError { text: text.chars().take(80).collect() };
        let number = |part: &str| part.parse::<usize>().ok().filter(|n| *n <= CPU_ID_MAX).ok_or_else(wrong);
        let mut set = BTreeSet::new();
        // The kernel writes `(null)` for an empty nohz_full.
        let body = text.trim();
        if body.is_empty() || body == "(null)" {
            return Ok(CpuSet(set));
        }
        for part in body.split(',') {
            match part.split_once('-') {
                None => {
                    set.insert(number(part)?);
                }
                Some((low, high)) => {
                    let (low, high) = (number(low)?, number(high)?);
                    if low > high {
                        return Err(wrong());
                    }
                    set.extend(low..=high);
                }
            }
        }
        Ok(CpuSet(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(low) = rest.next() {
            let mut high = low;
            while rest.peek() == Some(&(high + 1)) {
                high = rest.next().unwrap_or(high);
            }
            match high - low {
                0 => write!(f, "{separator}{low}")?,
                _ => write!(f, "{separator}{low}-{high}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Serialize for CpuSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for text in ["", "0", "0-3", "0,2,4", "0-3,8,10-11", "1,3-5,7,9-127"] {
            let set: CpuSet = text.parse().expect("a valid list");
            assert_eq!(set.to_string(), text);
        }
        assert_eq!("0-1,1-3\n".parse::<CpuSet>().expect("overlaps are allowed").to_string(), "0-3");
        assert!("(null)".parse::<CpuSet>().expect("an empty nohz_full").is_empty());
    }

    #[test]
    fn damage_is_refused_with_its_text() {
        for text in ["a", "1-", "-1", "3-1", "0,,2", "0-99999999", "18446744073709551616"] {
            let error = text.parse::<CpuSet>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn json_is_the_list() {
        let set: CpuSet = [5, 4, 0].into_iter().collect();
        let json = serde_json::to_string(&set).expect("serialises");
        assert_eq!(json, "\"0,4-5\"");
        assert_eq!(serde_json::from_str::<CpuSet>(&json).expect("reads back"), set);
    }
}
