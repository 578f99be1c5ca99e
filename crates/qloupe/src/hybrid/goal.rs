//! What a proposal has to reach, and who measures it.

use std::fmt;

use qloupe_exec::Mode;

use crate::Error;
use crate::evaluate::{Contender, Question, evaluate};
use crate::exam::{Exam, Marks};
use crate::quantize::Quantized;
use crate::runner::Runner;
use crate::samples::Labelled;
use crate::session::Session;

/// What has to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The worst network output, or slice of one, has at least this SQNR in dB.
    MinSqnrDb(f64),
    /// The worst network output, or slice of one, has at least this mean cosine.
    MinCosine(f64),
    /// The first metric of the task loses at most so many points (hundredths) against the float network.
    MaxDrop(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinSqnrDb(db) => write!(f, "at least {db} dB at the worst output"),
            Self::MinCosine(cosine) => write!(f, "a cosine of at least {cosine} at the worst output"),
            Self::MaxDrop(points) => write!(f, "at most {points} points lost"),
        }
    }
}

/// Samples with the right answers.
#[derive(Debug)]
pub struct Task<'a> {
    labelled: &'a Labelled,
    question: &'a Question,
    /// The first metric of the float network, 0 to 1.
    float: f64,
}

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Next to the float network.
    pub marks: Marks,
    /// Points lost on the task; absent without labels.
    pub drop: Option<f64>,
}

/// Who measures plans.
#[derive(Debug)]
pub struct Judge<'a> {
    goal: Goal,
    exam: &'a Exam,
    task: Option<Task<'a>>,
    mode: Mode,
}

impl<'a> Task<'a> {
    /// Runs the float network on the labelled samples.
    ///
    /// # Errors
    /// A run that fails.
    pub fn new(session: &Session, labelled: &'a Labelled, question: &'a Question) -> Result<Self, Error> {
        let mut task = Self {
            labelled,
            question,
            float: 0.0,
        };
        task.float = task.share(session, Runner::Float)?;
        Ok(task)
    }

    fn share(&self, session: &Session, runner: Runner) -> Result<f64, Error> {
        let contenders = [Contender {
            precision: "int8",
            runner,
        }];
        let scores = evaluate(
            &session.network,
            self.labelled,
            self.question,
            &contenders,
            &|_, _| (),
        )?;
        let hits = scores.first().and_then(|score| score.metrics.first());
        Ok(hits.map_or(0.0, |(_, hits)| hits.share()))
    }
}

impl<'a> Judge<'a> {
    /// # Errors
    /// A drop without labels.
    pub fn new(goal: Goal, exam: &'a Exam, task: Option<Task<'a>>, mode: Mode) -> Result<Self, Error> {
        if matches!(goal, Goal::MaxDrop(_)) && task.is_none() {
            return Err(Error::Options(
                "a goal of points lost needs the right answers, expected labels".to_owned(),
            ));
        }
        Ok(Self {
            goal,
            exam,
            task,
            mode,
        })
    }

    /// What has to be reached.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Runs a plan.
    ///
    /// # Errors
    /// A run that fails.
    pub fn standing(&self, session: &Session, quantized: &Quantized) -> Result<Standing, Error> {
        let drop = match (&self.task, self.goal) {
            (Some(task), Goal::MaxDrop(_)) => {
                let share = task.share(session, quantized.runner(session, self.mode)?)?;
                Some(100.0 * (task.float - share))
            }
            _ => None,
        };
        Ok(Standing {
            marks: self.exam.judge(&session.network, quantized)?,
            drop,
        })
    }

    /// True where the goal is reached.
    pub fn reaches(&self, standing: &Standing) -> bool {
        match self.goal {
            Goal::MinSqnrDb(db) => standing.marks.worst_db >= db,
            Goal::MinCosine(cosine) => standing.marks.worst_cosine >= cosine,
            Goal::MaxDrop(points) => standing.drop.is_some_and(|drop| drop <= points),
        }
    }
}
