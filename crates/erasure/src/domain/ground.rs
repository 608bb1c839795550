//! Which ground of refusal a request can be given: by its kind, and by whether it was shown that she asks
//! herself. It guarantees that no ground says what is held to whoever hasn't shown who she is.

use assent_contracts::rights::{RefusalGround, RequestKind};

use super::request::{Identity, RequestRefusal};

/// Whether this ground can be given.
///
/// # Errors
/// [`RequestRefusal::GroundTells`] before she has shown who she is,
/// [`RequestRefusal::GroundNotApplicable`] for the wrong kind, or when she has.
pub fn admissible(
    ground: RefusalGround,
    kind: RequestKind,
    identity: &Identity,
) -> Result<(), RequestRefusal> {
    if *identity == Identity::Pending && !ground.tells_nothing() {
        return Err(RequestRefusal::GroundTells);
    }
    let applies = is_of_kind(ground, kind)
        && match ground {
            RefusalGround::IdentityNotShown => *identity == Identity::Pending,
            // Who needed no proof may be anybody; an erasure without one is nobody's request.
            _ if *identity == Identity::NotNeeded => {
                ground.tells_nothing() || kind == RequestKind::Erasure
            }
            _ => true,
        };
    if applies { Ok(()) } else { Err(RequestRefusal::GroundNotApplicable) }
}

/// Whether the law knows this ground for this kind (GDPR Articles 12(5), 15(4), 16, 17(3), 20(4), 21(1)).
const fn is_of_kind(ground: RefusalGround, kind: RequestKind) -> bool {
    use RequestKind as Kind;
    match ground {
        RefusalGround::IdentityNotShown
        | RefusalGround::ManifestlyUnfounded
        | RefusalGround::Excessive => true,
        // There is always something to stop.
        RefusalGround::NothingHeld => !matches!(kind, Kind::OptOut | Kind::Objection),
        RefusalGround::FreedomOfExpression
        | RefusalGround::LegalObligation
        | RefusalGround::PublicHealth
        | RefusalGround::ArchivingOrResearch => matches!(kind, Kind::Erasure),
        // Article 21(1) knows them too; an objection to marketing is absolute (21(3)), and was
        // followed when it came.
        RefusalGround::LegalClaims => matches!(kind, Kind::Erasure | Kind::Objection),
        RefusalGround::RightsOfOthers => matches!(kind, Kind::Access | Kind::Portability),
        RefusalGround::AccurateAlready => matches!(kind, Kind::Rectification),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `.`: never; `p`: before the proof; `c`: after it; `n`: where none is needed. In the order of
    /// [`RequestKind::ALL`]: erasure, access, portability, rectification, restriction, objection, opt-out.
    const TABLE: [(RefusalGround, [&str; 7]); 11] = [
        (RefusalGround::IdentityNotShown, ["p", "p", "p", "p", "p", "p", "p"]),
        (RefusalGround::ManifestlyUnfounded, ["pcn", "pcn", "pcn", "pcn", "pcn", "pcn", "pcn"]),
        (RefusalGround::Excessive, ["pcn", "pcn", "pcn", "pcn", "pcn", "pcn", "pcn"]),
        (RefusalGround::NothingHeld, ["cn", "c", "c", "c", "c", ".", "."]),
        (RefusalGround::FreedomOfExpression, ["cn", ".", ".", ".", ".", ".", "."]),
        (RefusalGround::LegalObligation, ["cn", ".", ".", ".", ".", ".", "."]),
        (RefusalGround::PublicHealth, ["cn", ".", ".", ".", ".", ".", "."]),
        (RefusalGround::ArchivingOrResearch, ["cn", ".", ".", ".", ".", ".", "."]),
        (RefusalGround::LegalClaims, ["cn", ".", ".", ".", ".", "c", "."]),
        (RefusalGround::RightsOfOthers, [".", "c", "c", ".", ".", ".", "."]),
        (RefusalGround::AccurateAlready, [".", ".", ".", "c", ".", ".", "."]),
    ];

    #[test]
    fn every_ground_for_every_kind_in_every_state() {
        assert_eq!(TABLE.map(|(ground, _)| ground), RefusalGround::ALL);
        for (ground, kinds) in TABLE {
            for (kind, states) in RequestKind::ALL.into_iter().zip(kinds) {
                for (letter, identity) in [
                    ('p', Identity::Pending),
                    ('c', Identity::Confirmed(None)),
                    ('n', Identity::NotNeeded),
                ] {
                    let given = admissible(ground, kind, &identity);
                    let expected = states.contains(letter);
                    assert_eq!(given.is_ok(), expected, "{ground:?} {kind:?} {identity:?}");
                }
            }
        }
    }

    #[test]
    fn before_the_proof_the_kind_makes_no_difference_to_what_is_said() {
        for ground in RefusalGround::ALL.into_iter().filter(|ground| !ground.tells_nothing()) {
            for kind in RequestKind::ALL {
                let given = admissible(ground, kind, &Identity::Pending);
                assert_eq!(given, Err(RequestRefusal::GroundTells), "{ground:?} {kind:?}");
            }
        }
    }
}
