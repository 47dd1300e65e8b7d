//! What a condition says of one value: which numbers, which texts, true or false.

/// The values that a condition leaves to one subject. It may be larger than the truth, never smaller: whoever finds two
/// of them disjoint is right.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super::super) enum Constraint {
    /// Exactly this.
    Bool(bool),
    /// One of these numbers.
    Numbers(Numbers),
    /// One of these texts.
    Texts(Texts),
}

impl Constraint {
    /// Both at once; `None` where no value is in both.
    pub(super) fn meet(&self, other: &Constraint) -> Option<Constraint> {
        if self.disjoint(other) {
            return None;
        }
        match (self, other) {
            (Constraint::Numbers(one), Constraint::Numbers(other)) => Some(Constraint::Numbers(one.meet(other))),
            (Constraint::Texts(one), Constraint::Texts(other)) => one.meet(other).map(Constraint::Texts),
            _ => Some(self.clone()),
        }
    }

    /// Whether no value is in both.
    pub(super) fn disjoint(&self, other: &Constraint) -> bool {
        match (self, other) {
            (Constraint::Bool(one), Constraint::Bool(other)) => one != other,
            (Constraint::Numbers(one), Constraint::Numbers(other)) => one.meet(other).is_empty(),
            (Constraint::Texts(one), Constraint::Texts(other)) => one.disjoint(other),
            _ => false,
        }
    }

    /// Either of both, where one constraint can say it.
    pub(super) fn join(&self, other: &Constraint) -> Option<Constraint> {
        match (self, other) {
            (Constraint::Numbers(one), Constraint::Numbers(other)) => Some(Constraint::Numbers(one.join(other))),
            (Constraint::Texts(one), Constraint::Texts(other)) => one.join(other).map(Constraint::Texts),
            _ => None,
        }
    }
}

/// A set of numbers: closed spans in order, without overlap. Open ends are the next number inside, so that nothing else
/// is needed.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super::super) struct Numbers {
    spans: Vec<(f64, f64)>,
    /// Whether not-a-number is in it.
    nan: bool,
}

/// What is known of every value of a numeric subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super::super) struct Domain {
    /// Least and most; `None` where nothing is known, which leaves room for not-a-number.
    pub(super) bounds: Option<(f64, f64)>,
    /// Whether it has no fraction.
    pub(super) whole: bool,
}

const EVERYTHING: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

impl Numbers {
    /// The numbers that compare so with a finite number.
    pub(super) fn comparing(operator: &str, number: f64) -> Numbers {
        let (least, most) = EVERYTHING;
        let below = (least, number.next_down());
        let above = (number.next_up(), most);
        let spans = match operator {
            "<" => vec![below],
            "<=" => vec![(least, number)],
            ">" => vec![above],
            ">=" => vec![(number, most)],
            "!=" => vec![below, above],
            _ => vec![(number, number)],
        };
        Numbers { spans, nan: operator == "!=" }
    }

    /// Exactly these.
    pub(super) fn only(numbers: impl IntoIterator<Item = f64>) -> Numbers {
        Numbers::of(numbers.into_iter().map(|number| (number, number)).collect(), false)
    }

    /// All others.
    pub(super) fn complement(&self) -> Numbers {
        let mut spans = Vec::with_capacity(self.spans.len() + 1);
        let mut from = EVERYTHING.0;
        let mut open = true;
        for &(low, high) in &self.spans {
            if low > from {
                spans.push((from, low.next_down()));
            }
            open = high < EVERYTHING.1;
            from = high.next_up();
        }
        if open {
            spans.push((from, EVERYTHING.1));
        }
        Numbers { spans, nan: !self.nan }
    }

    /// Those that a subject can have.
    pub(super) fn within(&self, domain: Domain) -> Numbers {
        let bounds = domain.bounds.unwrap_or(EVERYTHING);
        let known = domain.whole || domain.bounds.is_some();
        let cut = self.meet(&Numbers { spans: vec![bounds], nan: !known });
        if !domain.whole {
            return cut;
        }
        let whole = cut.spans.into_iter().map(|(low, high)| (low.ceil(), high.floor()));
        Numbers { spans: whole.filter(|(low, high)| low <= high).collect(), nan: false }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty() && !self.nan
    }

    fn meet(&self, other: &Numbers) -> Numbers {
        let mut spans = Vec::new();
        for &(low, high) in &self.spans {
            let cut = other.spans.iter().map(|&(least, most)| (low.max(least), high.min(most)));
            spans.extend(cut.filter(|(low, high)| low <= high));
        }
        Numbers { spans, nan: self.nan && other.nan }
    }

    fn join(&self, other: &Numbers) -> Numbers {
        Numbers::of(self.spans.iter().chain(&other.spans).copied().collect(), self.nan || other.nan)
    }

    fn of(mut spans: Vec<(f64, f64)>, nan: bool) -> Numbers {
        spans.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut merged: Vec<(f64, f64)> = Vec::with_capacity(spans.len());
        for (low, high) in spans {
            match merged.last_mut() {
                Some(last) if low <= last.1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Numbers { spans: merged, nan }
    }
}

/// What a text is tested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super::super) enum Part {
    /// How it begins.
    Start,
    /// How it ends.
    End,
    /// What is in it.
    Inside,
}

impl Part {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Part::Start => text.starts_with(part),
            Part::End => text.ends_with(part),
            Part::Inside => text.contains(part),
        }
    }

    /// Whether every text that passes this test passes the other.
    fn implies(self, part: &str, other: Part, wanted: &str) -> bool {
        match other {
            Part::Inside => part.contains(wanted),
            _ => self == other && other.holds(part, wanted),
        }
    }

    /// Whether no text passes both tests: both begin, or both end, in ways that differ.
    fn excludes(self, part: &str, other: Part, wanted: &str) -> bool {
        self == other && self != Part::Inside && !self.holds(part, wanted) && !self.holds(wanted, part)
    }
}

/// A set of texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super::super) struct Texts {
    /// None but these, in order; the rest of the struct is empty then.
    only: Option<Vec<Box<str>>>,
    /// None of these, in order.
    not: Vec<Box<str>>,
    /// Tests and how they come out.
    tests: Vec<(Part, Box<str>, bool)>,
}

impl Texts {
    /// Exactly these.
    pub(super) fn only<'t>(texts: impl IntoIterator<Item = &'t str>) -> Texts {
        let mut only: Vec<Box<str>> = texts.into_iter().map(Box::from).collect();
        only.sort_unstable();
        only.dedup();
        Texts { only: Some(only), ..Texts::default() }
    }

    /// All but these.
    pub(super) fn not<'t>(texts: impl IntoIterator<Item = &'t str>) -> Texts {
        Texts { not: Texts::only(texts).only.unwrap_or_default(), ..Texts::default() }
    }

    /// Those for which a test comes out so.
    pub(super) fn tested(part: Part, text: &str, outcome: bool) -> Texts {
        Texts { tests: vec![(part, text.into(), outcome)], ..Texts::default() }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.only.as_ref().is_some_and(Vec::is_empty)
    }

    /// The only texts in it, where they can be counted.
    pub(in super::super::super) fn listed(&self) -> Option<&[Box<str>]> {
        self.only.as_deref()
    }

    /// The texts that alone are not in it, where nothing else is said.
    pub(in super::super::super) fn excluded(&self) -> Option<&[Box<str>]> {
        (self.only.is_none() && self.tests.is_empty()).then_some(self.not.as_slice())
    }

    /// Whether a text is in it.
    pub(in super::super::super) fn admits(&self, text: &str) -> bool {
        let listed = self.only.as_ref().is_none_or(|only| only.iter().any(|one| **one == *text));
        listed
            && !self.not.iter().any(|one| **one == *text)
            && self.tests.iter().all(|(part, wanted, outcome)| part.holds(text, wanted) == *outcome)
    }

    fn disjoint(&self, other: &Texts) -> bool {
        match (&self.only, &other.only) {
            (Some(only), _) => !only.iter().any(|text| other.admits(text)),
            (None, Some(only)) => !only.iter().any(|text| self.admits(text)),
            (None, None) => self.tests.iter().any(|one| other.tests.iter().any(|two| contradict(one, two))),
        }
    }

    fn meet(&self, other: &Texts) -> Option<Texts> {
        let listed = self.only.as_ref().or(other.only.as_ref());
        if let Some(listed) = listed {
            let both = listed.iter().map(|text| &**text).filter(|text| self.admits(text) && other.admits(text));
            return Some(Texts::only(both)).filter(|texts| !texts.is_empty());
        }
        let mut tests: Vec<_> = self.tests.iter().chain(&other.tests).cloned().collect();
        tests.sort_unstable();
        tests.dedup();
        let not = Texts::not(self.not.iter().chain(&other.not).map(|text| &**text)).not;
        Some(Texts { only: None, not, tests })
    }

    fn join(&self, other: &Texts) -> Option<Texts> {
        let (one, two) = (self.only.as_ref()?, other.only.as_ref()?);
        Some(Texts::only(one.iter().chain(two).map(|text| &**text)))
    }
}

fn contradict(one: &(Part, Box<str>, bool), two: &(Part, Box<str>, bool)) -> bool {
    match (one, two) {
        ((part, text, true), (other, wanted, false)) | ((other, wanted, false), (part, text, true)) => {
            part.implies(text, *other, wanted)
        }
        ((part, text, true), (other, wanted, true)) => part.excludes(text, *other, wanted),
        _ => false,
    }
}
