//! The demo: the main job on real parts, with no set-up. It starts other people's real programs
//! (a homeserver, an IRC server, irssi), two nodes of ours and a few users, and shows a
//! conversation crossing all of them. Tests take the same parts from here. It ends everything that
//! it started.

pub mod conversation;
pub mod debian;
pub mod irc_user;
pub mod ircd;
pub mod irssi;
pub mod journal;
pub mod matrix_user;
pub mod nodes;
pub mod people;
pub mod process;
pub mod screen;
pub mod stage;
pub mod synapse;
pub mod synapse_config;
pub mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use tokio::signal::unix::{SignalKind, signal};

use nodes::CHANNEL;
use people::Seat;
use screen::Screen;
use stage::{GUEST, Places, Stage, first, room_alias};
use trouble::Trouble;

/// Runs the demo: raises the stage, holds the conversation, and then either ends (`once`) or stays
/// up until Ctrl-C. Success if every line arrived everywhere.
pub fn run(once: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let shown = runtime
        .map_err(|e| Trouble::failed("starting", e))
        .and_then(|runtime| runtime.block_on(Box::pin(play(once))));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("multichat demo: {trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn play(once: bool) -> Result<(), Trouble> {
    let places = places()?;
    log_to_file(&places)?;
    let mut screen = Screen::new();
    let mut stage = Stage::default();
    screen.headline("Multichat demo: Matrix ↔ Multichat ↔ IRC, on real parts, all on this machine");
    let mut is_through = false;
    let shown = tokio::select! {
        shown = show(once, &places, &mut stage, &mut screen, &mut is_through) => shown,
        interrupted = interrupted() => interrupted,
    };
    let shown = shown.and_then(|()| match is_through {
        true => Ok(()),
        false => Err(Trouble::failed("showing the conversation", "interrupted before it was over")),
    });
    screen.doing("stopping everything that was started");
    stage.strike().await;
    match &shown {
        Ok(()) => {
            screen.line("Stopped everything that was started.");
            let _ = std::fs::remove_dir_all(&places.run);
        }
        Err(_) => screen.line(&format!("What the parts logged is in {}", places.run.display())),
    }
    shown
}

async fn show(
    once: bool,
    places: &Places,
    stage: &mut Stage,
    screen: &mut Screen,
    is_through: &mut bool,
) -> Result<(), Trouble> {
    stage.raise(places, screen).await?;
    screen.headline("A conversation");
    let tally = conversation::hold(&mut stage.people, screen).await?;
    screen.headline(&format!(
        "All {} lines arrived everywhere, once, under the right name: {} deliveries, the slowest {} ms.",
        tally.lines,
        tally.deliveries,
        tally.slowest.as_millis()
    ));
    *is_through = true;
    if once {
        return Ok(());
    }
    invite(stage, places, screen)?;
    watch(stage, screen).await
}

/// How to join in.
fn invite(stage: &Stage, places: &Places, screen: &mut Screen) -> Result<(), Trouble> {
    screen.headline("Join in");
    if let Some(synapse) = &stage.synapse {
        screen.line(&format!("  Matrix       homeserver {} in any Matrix client", synapse.url()));
        screen.line(&format!("               user {GUEST}, password {}", stage.guest_password));
        screen.line(&format!("               then join {}", room_alias()));
    }
    for (name, node) in [("A", &stage.node_a), ("B", &stage.node_b)] {
        if let Some(node) = node {
            let address = first(&node.irc)?;
            let (ip, port) = (address.ip(), address.port());
            screen
                .line(&format!("  IRC, node {name}  irssi -c {ip} -p {port} -n you   then /join {CHANNEL}"));
        }
    }
    if let Some(ircd) = &stage.ircd {
        let (ip, port) = (ircd.address().ip(), ircd.address().port());
        screen.line(&format!("  IRC network  irssi -c {ip} -p {port} -n you   then /join {CHANNEL}"));
    }
    screen.line(&format!("  Logs         {}", places.run.display()));
    screen.line("  What is said shows here. Ctrl-C stops everything.");
    Ok(())
}

/// Stays up as long as the nodes do, and shows what is said.
async fn watch(stage: &mut Stage, screen: &mut Screen) -> Result<(), Trouble> {
    let journal = stage.people.iter().find_map(|person| match &person.seat {
        Seat::Matrix { user, .. } => Some(user.journal()),
        _ => None,
    });
    let (Some(journal), Some(a), Some(b)) = (journal, &mut stage.node_a, &mut stage.node_b) else {
        return Ok(());
    };
    let mut seen = journal.count();
    let fault = loop {
        tokio::select! {
            fault = a.failed() => break fault,
            fault = b.failed() => break fault,
            (count, heard) = journal.after(seen) => {
                seen = count;
                for heard in heard {
                    screen.says(&heard.name, &heard.body);
                }
            }
        }
    };
    Err(Trouble::failed("running a node", fault))
}

/// Returns when somebody wants the demo to end.
async fn interrupted() -> Result<(), Trouble> {
    let listen = |kind| signal(kind).map_err(|e| Trouble::failed("listening for signals", e));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// `target/demo` of the checkout that the program was built in, or a folder in the user's cache.
fn places() -> Result<Places, Trouble> {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
        cache.unwrap_or_else(std::env::temp_dir).join("multichat")
    };
    let home = target.map_or_else(cache, PathBuf::from).join("demo");
    let run = home.join(format!("run-{}", std::process::id()));
    // Left over from a process that had the same number.
    let _ = std::fs::remove_dir_all(&run);
    std::fs::create_dir_all(&run).map_err(|e| Trouble::disk(&run, e))?;
    Ok(Places { home, run })
}

/// Sends what the nodes log to a file, so that the conversation can be read.
fn log_to_file(places: &Places) -> Result<(), Trouble> {
    let path = places.run.join("multichat.log");
    let file = std::fs::File::create(&path).map_err(|e| Trouble::disk(&path, e))?;
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,multichat=debug".into());
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    // Somebody else may log already; then that is where it goes.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .try_init();
    Ok(())
}
