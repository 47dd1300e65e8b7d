//! When a condition is true and when it is false, each as a list of cases.

use std::borrow::Cow;

use super::constraint::Constraint;

/// Most cases kept of one sub-expression; what has more is taken as a whole that nothing is known of.
const MAX_CASES: usize = 16;

/// What a constraint is about: a field, a header, or the text of a sub-expression.
pub(in super::super::super) type Subject = Cow<'static, str>;

/// Constraints that hold together, by subject in order. None at all leaves everything open.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super::super) struct Case {
    constraints: Vec<(Subject, Constraint)>,
}

impl Case {
    /// What it says, by subject.
    pub(in super::super::super) fn iter(&self) -> impl Iterator<Item = (&str, &Constraint)> {
        self.constraints.iter().map(|(subject, constraint)| (subject.as_ref(), constraint))
    }

    /// What it says of one subject.
    pub(in super::super::super) fn of(&self, subject: &str) -> Option<&Constraint> {
        self.iter().find(|(name, _)| *name == subject).map(|(_, constraint)| constraint)
    }

    /// Whether both cannot hold for one request.
    pub(in super::super::super) fn disjoint(&self, other: &Case) -> bool {
        let (mut one, mut two) = (self.constraints.iter().peekable(), other.constraints.iter().peekable());
        while let (Some((left, constraint)), Some((right, wanted))) = (one.peek(), two.peek()) {
            match left.cmp(right) {
                std::cmp::Ordering::Less => drop(one.next()),
                std::cmp::Ordering::Greater => drop(two.next()),
                std::cmp::Ordering::Equal if constraint.disjoint(wanted) => return true,
                std::cmp::Ordering::Equal => {
                    one.next();
                    two.next();
                }
            }
        }
        false
    }

    pub(super) fn meet(&self, other: &Case) -> Option<Case> {
        let mut both = self.clone();
        for (subject, constraint) in &other.constraints {
            both.add(subject, constraint)?;
        }
        Some(both)
    }

    /// Adds a constraint; `None` where nothing is left.
    fn add(&mut self, subject: &Subject, constraint: &Constraint) -> Option<()> {
        match self.constraints.binary_search_by(|(name, _)| name.cmp(subject)) {
            Ok(at) => {
                let (_, there) = self.constraints.get_mut(at)?;
                *there = there.meet(constraint)?;
            }
            Err(at) => self.constraints.insert(at, (subject.clone(), constraint.clone())),
        }
        Some(())
    }

    /// One case for two that differ in what they say of one subject, where a constraint can say both.
    fn join(&self, other: &Case) -> Option<Case> {
        let pairs = || self.constraints.iter().zip(&other.constraints);
        let same = self.constraints.len() == other.constraints.len() && pairs().all(|(one, two)| one.0 == two.0);
        let mut differ = pairs().enumerate().filter(|(_, (one, two))| one.1 != two.1);
        let (at, (one, two)) = differ.next().filter(|_| same)?;
        if differ.next().is_some() {
            return None;
        }
        let mut joined = self.clone();
        joined.constraints.get_mut(at)?.1 = one.1.join(&two.1)?;
        Some(joined)
    }
}

/// A condition in both directions. Each list may say more than the truth, never less: no case means never.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super::super) struct Logic {
    /// When it is true.
    pub(in super::super::super) yes: Vec<Case>,
    /// When it is false.
    pub(in super::super::super) no: Vec<Case>,
}

impl Logic {
    /// Always true, or always false.
    pub(super) fn constant(value: bool) -> Logic {
        let (yes, no) = (vec![Case::default()], Vec::new());
        if value { Logic { yes, no } } else { Logic { yes: no, no: yes } }
    }

    /// True where a subject is in one set, false where it is in the other; `None` is the empty set.
    pub(super) fn of(subject: &Subject, yes: Option<Constraint>, no: Option<Constraint>) -> Logic {
        match (yes, no) {
            (None, _) => Logic::constant(false),
            (_, None) => Logic::constant(true),
            (Some(yes), Some(no)) => {
                let case = |constraint| vec![Case { constraints: vec![(subject.clone(), constraint)] }];
                Logic { yes: case(yes), no: case(no) }
            }
        }
    }

    /// A sub-expression of which nothing is known but that it is true or false.
    pub(super) fn opaque(subject: &Subject) -> Logic {
        Logic::of(subject, Some(Constraint::Bool(true)), Some(Constraint::Bool(false)))
    }

    /// The opposite.
    pub(super) fn negated(self) -> Logic {
        Logic { yes: self.no, no: self.yes }
    }

    /// Both; `None` where there would be too many cases.
    pub(super) fn and(&self, other: &Logic) -> Option<Logic> {
        Some(Logic { yes: product(&self.yes, &other.yes)?, no: sum(&self.no, &other.no)? })
    }

    /// Either; `None` where there would be too many cases.
    pub(super) fn or(&self, other: &Logic) -> Option<Logic> {
        Some(Logic { yes: sum(&self.yes, &other.yes)?, no: product(&self.no, &other.no)? })
    }

    /// Whether this is surely true wherever the other is.
    pub(in super::super::super) fn follows_from(&self, other: &Logic) -> bool {
        other.yes.iter().all(|case| self.covers(case))
    }

    /// Whether this is surely true in a case.
    pub(in super::super::super) fn covers(&self, case: &Case) -> bool {
        self.no.iter().all(|no| no.disjoint(case))
    }
}

fn product(left: &[Case], right: &[Case]) -> Option<Vec<Case>> {
    let mut cases = Vec::new();
    for one in left {
        for two in right {
            if let Some(case) = one.meet(two) {
                add(&mut cases, case)?;
            }
        }
    }
    Some(cases)
}

fn sum(left: &[Case], right: &[Case]) -> Option<Vec<Case>> {
    let mut cases = left.to_vec();
    for case in right {
        add(&mut cases, case.clone())?;
    }
    Some(cases)
}

fn add(cases: &mut Vec<Case>, case: Case) -> Option<()> {
    if cases.contains(&case) {
        return Some(());
    }
    for there in cases.iter_mut() {
        if let Some(joined) = there.join(&case) {
            *there = joined;
            return Some(());
        }
    }
    cases.push(case);
    (cases.len() <= MAX_CASES).then_some(())
}
