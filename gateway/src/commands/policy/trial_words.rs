//! A trial in words: what is tried, how it does, what would come of it.

use std::time::Duration;

use pointsman_policies::trial::agreement::{ClassAgreement, Outlook};
use pointsman_policies::trial::guard::Verdict;

use super::words::{Colour, ago, columns, paint};
use crate::trial::view::{Attained, CanaryView, ShadowView, Side, State, TrialView};

/// Too short to be told.
const JUST_BEGUN: Duration = Duration::from_secs(5);

/// A line of a table.
type Row = Vec<(Colour, String)>;

/// All of it; `now_unix_s` is the reader's time.
pub(super) fn words(view: &TrialView, now_unix_s: u64) -> String {
    let Some(candidate) = &view.candidate else {
        return format!(
            "no candidate is on trial beside {}\n  help: try one with `pointsman policy shadow FILE`, then with \
             `pointsman policy canary FILE --share 5%`\n",
            view.incumbent.policy
        );
    };
    let since = Duration::from_secs(now_unix_s.saturating_sub(view.began_unix_s.unwrap_or(now_unix_s)));
    match (&view.canary, &view.shadow) {
        (Some(canary), _) => head("canary", candidate, &view.incumbent, since) + &canary_words(canary),
        (_, Some(shadow)) => head("shadow", candidate, &view.incumbent, since) + &shadow_words(shadow),
        _ => stopped_words(view, candidate),
    }
}

fn head(mode: &str, candidate: &Side, incumbent: &Side, since: Duration) -> String {
    let (version, file) = (paint(Colour::Strong, &candidate.policy), file_name(&candidate.file));
    let counted = if since < JUST_BEGUN { "from now on".to_owned() } else { format!("for {}", span(since)) };
    format!("{mode} {version} ({file}) beside {}, counted {counted}\n", incumbent.policy)
}

fn stopped_words(view: &TrialView, candidate: &Side) -> String {
    let Some(stopped) = view.rolled_back.as_ref().filter(|_| view.state == State::RolledBack) else {
        return format!("{} is not tried\n", candidate.policy);
    };
    format!(
        "{} the canary {} ({}) was rolled back by its guard {}; {} decides everything\n  {stopped}\n  help: change the \
         candidate; or try it again as it is: `pointsman policy resume`; or take it out of the policy: \
         `pointsman policy stop`\n",
        paint(Colour::Bad, "✗"),
        paint(Colour::Strong, &stopped.policy),
        file_name(&candidate.file),
        ago(stopped.at_unix_s.saturating_mul(1000)),
        view.incumbent.policy,
    )
}

fn canary_words(canary: &CanaryView) -> String {
    let tenants = match canary.tenants.as_slice() {
        [] => String::new(),
        tenants => format!(", and all of {}", tenants.join(", ")),
    };
    let mut text = format!(
        "decides {} of {}s{tenants}; is rolled back once a class is kept more than {} worse, with {} confidence\n\n",
        percent(canary.share),
        canary.by,
        percent(canary.margin),
        percent(canary.confidence),
    );
    let mut rows = vec![titles(["class", "in force", "requests", "candidate", "requests", "verdict"])];
    rows.extend(canary.classes.iter().map(|class| {
        let (colour, verdict) = verdict(&class.verdict);
        let plain = [
            class.class.clone(),
            attainment(&class.incumbent),
            class.incumbent.requests.to_string(),
            attainment(&class.candidate),
            class.candidate.requests.to_string(),
        ];
        plain.map(|cell| (Colour::Plain, cell)).into_iter().chain([(colour, verdict)]).collect()
    }));
    align_right(&mut rows, &[1, 2, 3, 4]);
    text.push_str(&columns(&rows));
    if !canary.unguarded.is_empty() {
        let names = canary.unguarded.join(", ");
        text.push_str(&paint(Colour::Notice, &format!("not guarded, because only one of both has it: {names}\n")));
    }
    text
}

fn verdict(verdict: &Verdict) -> (Colour, String) {
    let against = |odds: f64, limit: f64| format!("{} : 1 against it, rolled back at {limit:.0} : 1", figure(odds));
    match *verdict {
        Verdict::Waiting { incumbent: 0, candidate } => {
            (Colour::Faint, format!("needs {candidate} more under the candidate"))
        }
        Verdict::Waiting { incumbent, candidate: 0 } => {
            (Colour::Faint, format!("needs {incumbent} more under the policy in force"))
        }
        Verdict::Waiting { incumbent, candidate } => {
            (Colour::Faint, format!("needs {incumbent} more in force and {candidate} more under the candidate"))
        }
        Verdict::Fine { odds, limit } => (Colour::Good, format!("fine, {}", against(odds, limit))),
        Verdict::Worse { odds, limit } => (Colour::Bad, format!("worse, {}", against(odds, limit))),
    }
}

fn shadow_words(shadow: &ShadowView) -> String {
    let dropped = match shadow.dropped {
        0 => String::new(),
        dropped => format!(", {dropped} not for want of time"),
    };
    let mut text = format!(
        "decides {} of requests besides, without consequence; {} compared{dropped}\n",
        percent(shadow.sample),
        shadow.compared
    );
    if shadow.classes.is_empty() {
        return text;
    }
    text.push('\n');
    let head =
        ["class", "compared", "same class", "same pool", "likely kept", "$ each", "J each", "refused", "moves most"];
    let mut rows = vec![titles(head)];
    rows.extend(shadow.classes.iter().map(|(name, class)| shadow_row(name, class)));
    align_right(&mut rows, &[1, 2, 3]);
    text.push_str(&columns(&rows));
    text
}

fn shadow_row(name: &str, class: &ClassAgreement) -> Row {
    let share = |count: u64| percent((count as f64 / class.requests.max(1) as f64 * 1e3).round() / 1e3);
    let both = |figure: &dyn Fn(&Outlook) -> String| change(&figure(&class.incumbent), &figure(&class.candidate));
    let each = |outlook: &Outlook, sum: f64, digits: usize| match class.requests.saturating_sub(outlook.refused) {
        0 => "-".to_owned(),
        planned => format!("{:.digits$}", sum / planned as f64),
    };
    let cells = [
        name.to_owned(),
        class.requests.to_string(),
        share(class.same_class),
        share(class.same_pool),
        both(&|outlook| share(outlook.likely_kept)),
        both(&|outlook| each(outlook, outlook.usd, 6)),
        both(&|outlook| each(outlook, outlook.joules, 1)),
        both(&|outlook| outlook.refused.to_string()),
        moves_most(class),
    ];
    cells.map(|cell| (Colour::Plain, cell)).to_vec()
}

fn moves_most(class: &ClassAgreement) -> String {
    let moves = class.moves.iter().flat_map(|(from, to)| to.iter().map(move |(to, count)| (from, to, count)));
    let moved = moves.filter(|(from, to, _)| from != to).max_by_key(|(_, _, count)| **count);
    moved.map_or("nothing".to_owned(), |(from, to, count)| format!("{count} {from} → {to}"))
}

fn change(before: &str, after: &str) -> String {
    if before == after { before.to_owned() } else { format!("{before} → {after}") }
}

fn titles<const COLUMNS: usize>(titles: [&str; COLUMNS]) -> Row {
    titles.map(|title| (Colour::Faint, title.to_owned())).to_vec()
}

fn align_right(rows: &mut [Row], places: &[usize]) {
    for place in places {
        let widths = rows.iter().filter_map(|row| row.get(*place)).map(|(_, text)| text.chars().count());
        let width = widths.max().unwrap_or_default();
        for (_, text) in rows.iter_mut().filter_map(|row| row.get_mut(*place)) {
            *text = format!("{text:>width$}");
        }
    }
}

fn attainment(attained: &Attained) -> String {
    attained.attainment.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// Without digits that say nothing: `5 %`, `0.5 %`, `99.9 %`.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1e5).round() / 1e3)
}

/// Short, and never a lie about what is near nothing.
fn figure(odds: f64) -> String {
    match odds {
        odds if odds < 0.01 => "less than 0.01".to_owned(),
        odds if odds < 10.0 => format!("{odds:.2}"),
        odds => format!("{odds:.0}"),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The two largest units of a time.
fn span(span: Duration) -> String {
    let text = humantime::format_duration(span).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::memory::{Figures, Stopped};

    fn view(state: State) -> TrialView {
        let side = |policy: &str, file: &str| Side { policy: policy.into(), file: file.into(), hash: String::new() };
        TrialView {
            state,
            incumbent: side("balanced@3", "/etc/pointsman/policy.toml"),
            candidate: Some(side("lean@3+canary", "/etc/pointsman/lean.toml")),
            began_unix_s: Some(1_000),
            canary: None,
            shadow: None,
            rolled_back: None,
        }
    }

    fn plain(view: &TrialView) -> String {
        anstream::adapter::strip_str(&words(view, 1_000 + 3_700)).to_string()
    }

    #[test]
    fn a_canary_tells_how_near_it_is_to_its_end() {
        let attained = |requests: u64, kept: u64| Attained {
            requests,
            kept,
            attainment: (requests > 0).then(|| kept as f64 / requests as f64),
        };
        let class = |class: &str, incumbent, candidate, verdict| crate::trial::view::ClassView {
            class: class.to_owned(),
            incumbent,
            candidate,
            verdict,
        };
        let classes = vec![
            class(
                "realtime",
                attained(12_345, 12_300),
                attained(612, 609),
                Verdict::Fine { odds: 0.0042, limit: 300.0 },
            ),
            class("standard", attained(900, 890), attained(130, 104), Verdict::Worse { odds: 412.3, limit: 300.0 }),
            class("batch", attained(0, 0), attained(7, 7), Verdict::Waiting { incumbent: 100, candidate: 93 }),
        ];
        let canary = CanaryView {
            share: 0.05,
            by: "session".into(),
            tenants: vec!["acme".into()],
            margin: 0.02,
            confidence: 0.99,
            min_requests: 100,
            classes,
            unguarded: vec!["night".into()],
        };
        insta::assert_snapshot!(plain(&TrialView { canary: Some(canary), ..view(State::Running) }));
    }

    #[test]
    fn a_shadow_tells_what_would_become_of_each_class() {
        let outlook = |likely_kept, usd, joules, refused| Outlook { likely_kept, usd, joules, refused, ttft_ms: 0.0 };
        let moves = [("wafer".to_owned(), [("gpu".to_owned(), 90), ("wafer".to_owned(), 20)].into())];
        let mut standard = ClassAgreement { requests: 110, same_class: 110, same_pool: 20, ..Default::default() };
        (standard.incumbent, standard.candidate) = (outlook(110, 0.11, 1_100.0, 0), outlook(99, 0.055, 550.0, 0));
        standard.moves = moves.into();
        let mut batch = ClassAgreement { requests: 4, same_class: 1, same_pool: 4, ..Default::default() };
        (batch.incumbent, batch.candidate) = (outlook(4, 0.04, 40.0, 0), outlook(0, 0.0, 0.0, 4));
        let classes = [("standard".to_owned(), standard), ("batch".to_owned(), batch)].into();
        let shadow = ShadowView { sample: 0.5, compared: 114, dropped: 3, classes };
        insta::assert_snapshot!(plain(&TrialView { shadow: Some(shadow), ..view(State::Running) }));
    }

    #[test]
    fn what_was_rolled_back_tells_why_and_what_to_do() {
        let figures = |requests, attainment| Figures { requests, attainment };
        let stopped = Stopped {
            hash: String::new(),
            policy: "lean".into(),
            file: "/etc/pointsman/lean.toml".into(),
            at_unix_s: 1_000,
            class: "standard".into(),
            incumbent: figures(900, 0.989),
            candidate: figures(130, 0.8),
            margin: 0.02,
            confidence: 0.99,
        };
        let text = plain(&TrialView { rolled_back: Some(stopped), ..view(State::RolledBack) });
        let figures = ["class standard: 80.0 % of 130", "98.9 % of 900", "policy resume", "policy stop", "lean.toml"];
        assert!(figures.iter().all(|figure| text.contains(figure)), "{text}");
    }
}
