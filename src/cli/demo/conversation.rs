//! The conversation: who says what, and the proof that each line reached everybody, once, under
//! its author's name.

use std::time::{Duration, Instant};

use super::people::{Person, way};
use super::screen::Screen;
use super::trouble::Trouble;

/// Longest way of a line before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a second copy of a line is given to turn up.
const AFTERMATH: Duration = Duration::from_millis(500);

const SCRIPT: [(&str, &str); 6] = [
    ("Alice", "Hello from Matrix! Who is there?"),
    ("Bob", "Me, on IRC, at another node."),
    ("Carol", "And me, on an IRC network that knows nothing of all this."),
    ("Alice", "Grüße an alle. Schön, καλημέρα, 你好 🎉"),
    ("Bob", "No server is in charge of this channel: each node has all of it."),
    ("Carol", "Good. Then I shall stay."),
];

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub lines: usize,
    pub deliveries: usize,
    pub slowest: Duration,
}

/// Has the people who are there say their lines, and shows each arrival.
///
/// # Errors
/// The first line that did not arrive everywhere, or not as it should.
pub async fn hold(people: &mut [Person], screen: &mut Screen) -> Result<Tally, Trouble> {
    let mut tally = Tally::default();
    let mut spoken = Vec::new();
    for (speaker, text) in SCRIPT {
        let Some(index) = people.iter().position(|person| person.name == speaker) else { continue };
        screen.says(speaker, text);
        let begun = Instant::now();
        people[index].say(text).await?;
        let arrivals = arrivals(people, index, text, begun, screen).await?;
        tally.lines += 1;
        tally.deliveries += arrivals.len();
        tally.slowest = arrivals.into_iter().fold(tally.slowest, Duration::max);
        spoken.push((index, text));
    }
    tokio::time::sleep(AFTERMATH).await;
    for (index, text) in spoken {
        came_once(people, index, text)?;
    }
    Ok(tally)
}

/// Waits for a line at everybody else; returns how long it took to each.
async fn arrivals(
    people: &[Person],
    speaker: usize,
    text: &str,
    begun: Instant,
    screen: &mut Screen,
) -> Result<Vec<Duration>, Trouble> {
    let author = &people[speaker];
    let others =
        || people.iter().enumerate().filter(|(index, _)| *index != speaker).map(|(_, person)| person);
    let heard = others().map(|person| person.hears(author.name, text, PATIENCE));
    let heard = futures::future::join_all(heard).await;
    let mut times = Vec::new();
    let mut trouble = None;
    for (person, arrival) in others().zip(heard) {
        match arrival {
            Ok(arrival) => {
                let after = arrival.at.saturating_duration_since(begun);
                screen.arrived(person.name, &way(author, person), &arrival.name, after);
                times.push(after);
                if !arrival.name.to_lowercase().contains(&author.name.to_lowercase()) {
                    let doing = format!("showing {}'s line to {}", author.name, person.name);
                    trouble = Some(Trouble::failed(doing, format!("it bore the name {:?}", arrival.name)));
                }
            }
            Err(late) => {
                screen.failed(&late.to_string());
                trouble = Some(late);
            }
        }
    }
    trouble.map_or(Ok(times), Err)
}

fn came_once(people: &[Person], speaker: usize, text: &str) -> Result<(), Trouble> {
    for (_, person) in people.iter().enumerate().filter(|(index, _)| *index != speaker) {
        let times = person.times_heard(text);
        if times != 1 {
            let said = format!("{} had {text:?} {times} times", person.name);
            return Err(Trouble::failed("bringing each line once", said));
        }
    }
    Ok(())
}
