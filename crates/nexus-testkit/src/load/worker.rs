//! One thread of the generator: receives, lets the clients decide, sends, sleeps if there is nothing to do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::compose::Composer;
use super::pace::Pace;
use super::plan::{Exchange, Plan};
use super::reply::Reply;
use super::report::Tally;
use super::sessions::{Message, Sessions};
use super::socket::{BATCH, Port};
use crate::interrupt;

/// How often timers are looked at.
const TICK: u64 = 5_000_000;
/// Longest sleep, so that timers and interruptions are seen.
const NAP: Duration = Duration::from_millis(1);
/// A sleep is longer than asked for by about this much.
const SLACK: u64 = 60_000;
/// How long clients that shall renew may take to get their addresses.
const PREPARATION: u64 = 30_000_000_000;

/// Runs the plan's part of `thread`.
pub fn run(plan: &Plan, thread: u32, salt: u32, began: Instant) -> Result<Tally> {
    let renewals = plan.exchange == Exchange::Renew && !plan.echo;
    let mut worker = Worker {
        port: Port::open(&plan.interface, plan.threads, thread, plan.tags)?,
        composer: Composer::new(plan),
        sessions: Sessions::new(plan, thread, salt)?,
        outbox: VecDeque::with_capacity(BATCH),
        frames: (0..BATCH).map(|_| Vec::with_capacity(512)).collect(),
        plan,
        epoch: began,
    };
    if renewals {
        worker.sessions.begin_again(Exchange::Full, true)?;
        let window = super::plan::Pace::Closed {
            window: 16 * plan.threads,
        };
        let slowly = Plan {
            pace: window,
            ..plan.clone()
        };
        worker.play(&mut Pace::new(&slowly, thread), PREPARATION)?;
        worker.sessions.begin_again(Exchange::Renew, plan.once)?;
        worker.epoch = Instant::now();
    }
    let length = (plan.seconds * 1e9) as u64;
    worker.play(&mut Pace::new(plan, thread), length)?;
    Ok(worker.sessions.into_tally())
}

struct Worker<'a> {
    port: Port,
    composer: Composer,
    sessions: Sessions,
    /// What is to be sent; as long as there is a batch of it, nobody begins.
    outbox: VecDeque<Message>,
    frames: Vec<Vec<u8>>,
    plan: &'a Plan,
    epoch: Instant,
}

impl Worker<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets exchanges begin for `length` nanoseconds, and waits until the last is over. Clients with retries, which
    /// never give up, are cut off at the end.
    fn play(&mut self, pace: &mut Pace, length: u64) -> Result<()> {
        let mut tick = 0;
        loop {
            let received = self.receive()?;
            let now = self.now();
            let open = now < length;
            if !open && (self.plan.retry || self.sessions.under_way() == 0) {
                self.cut_off();
                return Ok(());
            }
            if now >= tick {
                tick = now + TICK;
                interrupt::check()?;
                let outbox = &mut self.outbox;
                self.sessions
                    .expire(now, |message| outbox.push_back(message));
            }
            if open {
                self.begin(pace, now);
            }
            if self.sessions.is_over() {
                return Ok(());
            }
            let sent = self.flush()?;
            if received + sent == 0 && !self.plan.busy {
                self.sleep(pace, now, open)?;
            }
        }
    }

    fn receive(&mut self) -> Result<usize> {
        let Self {
            port,
            sessions,
            composer,
            outbox,
            plan,
            epoch,
            ..
        } = self;
        let mut now = None;
        port.receive(|frame| {
            // One reading of the clock for all that came together.
            let now = *now.get_or_insert_with(|| {
                u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
            });
            let Some(reply) = Reply::read(frame, plan.echo) else {
                sessions.tally().counts.strange += 1;
                return;
            };
            let client = reply.xid & (super::plan::MAX_CLIENTS - 1);
            let mac_is_right = plan.mac(client) == reply.mac;
            if mac_is_right {
                composer.set_gateway(reply.from);
            }
            outbox.extend(sessions.receive(now, &reply, mac_is_right));
        })
    }

    fn begin(&mut self, pace: &mut Pace, now: u64) {
        let room = BATCH.saturating_sub(self.outbox.len()) as u64;
        let mut due = pace.due(now, self.sessions.under_way(), room);
        while due > 0 && (self.sessions.has_idle() || !self.plan.once) {
            due -= 1;
            self.outbox.extend(self.sessions.begin(now));
        }
    }

    /// Sends all that is to be sent.
    fn flush(&mut self) -> Result<usize> {
        let mut total = 0;
        while !self.outbox.is_empty() {
            let mut count = 0;
            for (frame, message) in self.frames.iter_mut().zip(&self.outbox) {
                self.composer.write(message, frame);
                count += 1;
            }
            let (sent, refused) = self
                .port
                .send(self.frames.get(..count).unwrap_or_default())?;
            let gone = sent + usize::from(refused);
            self.sessions.tally().counts.unsent += u64::from(refused);
            self.outbox.drain(..gone.min(count));
            total += gone;
            if gone == 0 {
                break;
            }
            if !self.outbox.is_empty() {
                self.receive()?;
            }
        }
        Ok(total)
    }

    fn sleep(&self, pace: &Pace, now: u64, open: bool) -> Result<()> {
        let until = pace.next_at().filter(|_| open).unwrap_or(u64::MAX);
        let rest = until.saturating_sub(now);
        if rest > SLACK {
            self.port
                .wait(Duration::from_nanos(rest - SLACK).min(NAP))?;
        }
        Ok(())
    }

    /// The time is over for clients that would go on asking.
    fn cut_off(&mut self) {
        let under_way = self.sessions.under_way();
        self.sessions.tally().counts.lost += under_way;
    }
}
