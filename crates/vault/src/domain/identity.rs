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

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Phone, Self::UserId, Self::ParentUserId];
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

/// What is known of those who have one of the names, and of all who are one with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// Which kinds of identifier each has.
    pub holds: BTreeMap<Uuid, Vec<Kind>>,
    /// Who is one with each by the platform's word. Whoever is missing is one with nobody.
    pub linked: BTreeMap<Uuid, BTreeSet<Uuid>>,
}

impl People {
    /// Everybody who is one with her, herself too.
    #[must_use]
    pub fn group(&self, subject: Uuid) -> BTreeSet<Uuid> {
        let others = self.linked.get(&subject).into_iter().flatten().copied();
        others.chain([subject]).collect()
    }

    fn holding(&self, group: &BTreeSet<Uuid>, kind: Kind) -> usize {
        let holds = |it: &&Uuid| self.holds.get(it).is_some_and(|held| held.contains(&kind));
        group.iter().filter(holds).count()
    }
}

/// Decides. `told` are the identifiers and who has each; `answers` is who got the message that was answered.
/// People who are one have one identifier of a kind between them: another one is a doubt, whoever of them it
/// is told of.
#[must_use]
pub fn decide(told: &[(Kind, Option<Uuid>)], answers: Option<Uuid>, people: &People) -> Decision {
    let holders: BTreeSet<Uuid> = told.iter().filter_map(|(_, it)| *it).chain(answers).collect();
    let another = |holder: &Uuid| {
        let group = people.group(*holder);
        let is_theirs = |whose: &Option<Uuid>| whose.is_some_and(|it| group.contains(&it));
        let mut told = told.iter();
        told.any(|(kind, whose)| !is_theirs(whose) && people.holding(&group, *kind) > 0)
    };
    let doubted: Vec<Uuid> = holders.iter().copied().filter(|it| another(it)).collect();
    if !doubted.is_empty() {
        return Decision::Doubt(doubted);
    }
    let all: BTreeSet<Uuid> = holders.iter().flat_map(|it| people.group(*it)).collect();
    if Kind::ALL.into_iter().any(|kind| people.holding(&all, kind) > 1) {
        return Decision::Doubt(holders.into_iter().collect());
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

    fn holds(of: &[(Uuid, &[Kind])]) -> People {
        let holds = of.iter().map(|(subject, kinds)| (*subject, kinds.to_vec())).collect();
        People { holds, linked: BTreeMap::new() }
    }

    fn linked(of: &[(Uuid, &[Kind])]) -> People {
        let all: BTreeSet<Uuid> = of.iter().map(|(subject, _)| *subject).collect();
        let linked = all.iter().map(|it| (*it, all.clone())).collect();
        People { linked, ..holds(of) }
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

    /// Trap 10: the number of somebody who is one with another is given to a third person.
    #[test]
    fn what_one_of_them_is_known_by_the_other_is_not_known_by_another() {
        let pair = linked(&[(A, &[Phone]), (B, &[UserId])]);
        let unknown_account = [(Phone, Some(A)), (UserId, None)];
        assert_eq!(decide(&unknown_account, None, &pair), Decision::Doubt(vec![A]));
        let unknown_number = [(Phone, None), (UserId, Some(B))];
        assert_eq!(decide(&unknown_number, None, &pair), Decision::Doubt(vec![B]));
        assert_eq!(decide(&[(UserId, None)], Some(A), &pair), Decision::Doubt(vec![A]));
        // Between them they have it already, and what neither has is added.
        let both = [(Phone, Some(A)), (UserId, Some(B))];
        assert_eq!(decide(&both, None, &pair), Decision::Link(vec![A, B]));
        let more = [(Phone, Some(A)), (ParentUserId, None)];
        let added = Decision::Add { subject: A, kinds: vec![ParentUserId] };
        assert_eq!(decide(&more, None, &pair), added);
    }

    #[test]
    fn people_with_two_names_of_a_kind_between_them_are_not_linked() {
        let known = holds(&[(A, &[Phone, ParentUserId]), (B, &[UserId, ParentUserId])]);
        let both = [(Phone, Some(A)), (UserId, Some(B))];
        assert_eq!(decide(&both, None, &known), Decision::Doubt(vec![A, B]));
        // Nor is a third one to a pair that has what she has.
        let mut known = linked(&[(A, &[Phone]), (B, &[UserId])]);
        let third = Uuid::from_u128(3);
        known.holds.insert(third, vec![UserId, ParentUserId]);
        let told = [(Phone, Some(A)), (ParentUserId, Some(third))];
        assert_eq!(decide(&told, None, &known), Decision::Doubt(vec![A, third]));
    }
}
