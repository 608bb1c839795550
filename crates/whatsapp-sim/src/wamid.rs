//! Message ids in Meta's own layout: base64 around the other side's number. They are personal
//! data, and that is the point: whoever stores one in the clear is found by a canary scan.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::random::Random;

/// Which way a message went; it is one byte of the id.
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    /// From the business to a person.
    Outbound,
    /// From a person to the business.
    Inbound,
}

/// A new id around `party`, the digits of a number or a BSUID.
#[must_use]
pub fn new(party: &str, direction: Direction, random: &Random) -> String {
    let party = &party.as_bytes()[..party.len().min(255)];
    let serial = random.hex().to_uppercase();
    let mut raw = vec![0x1c, 0x18, u8::try_from(party.len()).unwrap_or(u8::MAX)];
    raw.extend_from_slice(party);
    raw.extend_from_slice(&[0x15, 0x02, 0x00]);
    raw.push(match direction {
        Direction::Outbound => 0x11,
        Direction::Inbound => 0x12,
    });
    raw.extend_from_slice(&[0x18, 0x12]);
    raw.extend_from_slice(&serial.as_bytes()[..18]);
    raw.push(0);
    format!("wamid.{}", STANDARD.encode(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wamid_carries_the_number_inside_its_base64() {
        let id = new("16505551234", Direction::Outbound, &Random::new(Some(1)));
        let raw = STANDARD.decode(id.strip_prefix("wamid.").unwrap()).unwrap();
        assert!(id.starts_with("wamid.HBgL"), "Meta's ids of 11-digit numbers begin so: {id}");
        assert!(raw.windows(11).any(|part| part == b"16505551234"));
    }
}
