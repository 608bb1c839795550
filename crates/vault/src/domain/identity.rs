//! What follows when the platform names one person by several identifiers, as a pure decider. It guarantees
//! that nobody gets an identifier that is somebody else's, that nobody's identifier is replaced by another
//! one, and that people are linked and never merged.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// A kind of identifier. Nobody has two of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A phone number, in all its spellings.
    Phone,
    /// A business-scoped user id.
    UserId,
    /// The user id that linked portfolios share.
    ParentUserId,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nobody has any of them.
    Nobody,
    /// All of them are hers already.
    Known(Uuid),
    /// She has these as well.
    Add {
        /// Who.
        subject: Uuid,
        /// Which of those that were told.
        kinds: Vec<Kind>,
    },
    /// They are people of their own here, and one at the platform.
    Link(Vec<Uuid>),
    /// They had another identifier of a kind than the one that was told: whoever is meant may be somebody
    /// else, or have moved.
    Doubt(Vec<Uuid>),
}

/// Decides. `told` are the identifiers and who has each; `answers` is who got the message that was answered;
/// `holds` tells of each of these people which kinds of identifier she has.
#[must_use]
pub fn decide(
    told: &[(Kind, Option<Uuid>)],
    answers: Option<Uuid>,
    holds: &BTreeMap<Uuid, Vec<Kind>>,
) -> Decision {
    let holders: BTreeSet<Uuid> = told.iter().filter_map(|(_, it)| *it).chain(answers).collect();
    let another = |holder: &Uuid| {
        let held = holds.get(holder).map_or(&[][..], Vec::as_slice);
        told.iter().any(|(kind, whose)| *whose != Some(*holder) && held.contains(kind))
    };
    let doubted: Vec<Uuid> = holders.iter().copied().filter(|it| another(it)).collect();
    if !doubted.is_empty() {
        return Decision::Doubt(doubted);
    }
    let mut holders = holders.into_iter();
    match (holders.next(), holders.next()) {
        (None, _) => Decision::Nobody,
        (Some(first), Some(second)) => {
            Decision::Link([first, second].into_iter().chain(holders).collect())
        }
        (Some(subject), None) => {
            let new = told.iter().filter(|(_, whose)| whose.is_none());
            let kinds: Vec<Kind> = new.map(|(kind, _)| *kind).collect();
            if kinds.is_empty() {
                Decision::Known(subject)
            } else {
                Decision::Add { subject, kinds }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind::{ParentUserId, Phone, UserId};
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn holds(of: &[(Uuid, &[Kind])]) -> BTreeMap<Uuid, Vec<Kind>> {
        of.iter().map(|(subject, kinds)| (*subject, kinds.to_vec())).collect()
    }

    #[test]
    fn of_strangers_nothing_is_kept() {
        let told = [(Phone, None), (UserId, None)];
        assert_eq!(decide(&told, None, &holds(&[])), Decision::Nobody);
    }

    #[test]
    fn what_is_new_is_added_to_whom_it_belongs() {
        let told = [(Phone, Some(A)), (UserId, None), (ParentUserId, None)];
        let added = Decision::Add { subject: A, kinds: vec![UserId, ParentUserId] };
        assert_eq!(decide(&told, None, &holds(&[(A, &[Phone])])), added);
        let all = told.map(|(kind, _)| (kind, Some(A)));
        let known = holds(&[(A, &[Phone, UserId, ParentUserId])]);
        assert_eq!(decide(&all, None, &known), Decision::Known(A));
        // The number of somebody who was known by her user id only.
        let told = [(Phone, None), (UserId, Some(A))];
        let added = Decision::Add { subject: A, kinds: vec![Phone] };
        assert_eq!(decide(&told, None, &holds(&[(A, &[UserId])])), added);
    }

    #[test]
    fn the_answer_to_a_message_comes_from_who_got_it() {
        let added = Decision::Add { subject: A, kinds: vec![UserId] };
        assert_eq!(decide(&[(UserId, None)], Some(A), &holds(&[(A, &[Phone])])), added);
        let told = [(UserId, Some(B))];
        let both = holds(&[(A, &[Phone]), (B, &[UserId])]);
        assert_eq!(decide(&told, Some(A), &both), Decision::Link(vec![A, B]));
    }

    #[test]
    fn two_people_are_linked_and_nothing_of_theirs_moves() {
        let told = [(Phone, Some(A)), (UserId, Some(B))];
        let both = holds(&[(A, &[Phone]), (B, &[UserId])]);
        assert_eq!(decide(&told, None, &both), Decision::Link(vec![A, B]));
    }

    #[test]
    fn another_account_at_her_number_puts_her_in_doubt_and_nobody_else() {
        let known = holds(&[(A, &[Phone, UserId]), (B, &[UserId])]);
        let unknown_account = [(Phone, Some(A)), (UserId, None)];
        assert_eq!(decide(&unknown_account, None, &known), Decision::Doubt(vec![A]));
        let anothers = [(Phone, Some(A)), (UserId, Some(B))];
        assert_eq!(decide(&anothers, None, &known), Decision::Doubt(vec![A]));
        // Her account at another number.
        let moved = [(Phone, None), (UserId, Some(A))];
        assert_eq!(decide(&moved, None, &known), Decision::Doubt(vec![A]));
    }
}
