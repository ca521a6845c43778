//! From the model's scores to an answer, as `Magika._get_output_label_from_dl_label_and_score` does it in its default mode,
//! high confidence. Knows labels, and bytes only as far as telling text from the rest.

use sandmill_plugin::Error;
use serde::Serialize;

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// A type of file and what is known of it.
pub(crate) struct ContentType {
    label: &'static str,
    description: &'static str,
    mime_type: &'static str,
    group: &'static str,
    extensions: &'static [&'static str],
    is_text: bool,
}

/// One of the model's outputs.
pub(crate) struct Class {
    predicted: &'static ContentType,
    /// What is answered if the score will do; for a few, something more general than what the model predicts.
    answered: &'static ContentType,
    score_min: f64,
}

/// The answer: a type, and how sure the model is.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) label: &'static str,
    /// The probability of what the model predicted, from 0 to 1; 1 where it was not asked. As f64, whose digits are those
    /// that Python prints of an f32.
    pub(crate) score: f64,
    description: &'static str,
    mime_type: &'static str,
    group: &'static str,
    /// The usual extensions of such a file's name, without the dot, the most usual first.
    extensions: &'static [&'static str],
    is_text: bool,
    /// What the model predicted, if that is not what is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    dl_label: Option<&'static str>,
    /// Why that is not what is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    overwrite_reason: Option<Reason>,
}

/// Why the model's prediction is not the answer.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The score is below the least for its class.
    LowConfidence,
    /// The class always stands for a more general one.
    OverwriteMap,
}

impl Verdict {
    /// Of a file that is empty or too short for the model.
    pub(crate) fn without_model(content: &[u8]) -> Self {
        let content_type = match std::str::from_utf8(content) {
            Ok("") => EMPTY,
            Ok(_) => TXT,
            Err(_) => UNKNOWN,
        };
        Self::new(content_type, 1.0)
    }

    /// Of the probabilities of all classes, `[214] f32`. Of equal ones the first counts.
    ///
    /// # Errors
    /// [`Error::internal`] if there are more or fewer.
    pub(crate) fn of_scores(scores: &[f32]) -> Result<Self, Error> {
        if scores.len() != CLASSES.len() {
            return Err(Error::internal(format_args!("the model gave {} scores, not {}", scores.len(), CLASSES.len())));
        }
        let (class, score) = scores.iter().enumerate().fold(
            (0, scores[0]),
            |best, (class, &score)| {
                if score > best.1 { (class, score) } else { best }
            },
        );
        Ok(Self::of_class(&CLASSES[class], f64::from(score)))
    }

    fn of_class(class: &Class, score: f64) -> Self {
        let (content_type, reason) = if score >= class.score_min {
            (class.answered, Reason::OverwriteMap)
        } else {
            (if class.answered.is_text { TXT } else { UNKNOWN }, Reason::LowConfidence)
        };
        let mut verdict = Self::new(content_type, score);
        if class.predicted.label != verdict.label {
            verdict.dl_label = Some(class.predicted.label);
            verdict.overwrite_reason = Some(reason);
        }
        verdict
    }

    fn new(kind: &ContentType, score: f64) -> Self {
        let ContentType { label, description, mime_type, group, extensions, is_text } = *kind;
        Self { label, score, description, mime_type, group, extensions, is_text, dl_label: None, overwrite_reason: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(label: &str, score: f32) -> (&'static str, Option<(&'static str, Reason)>) {
        let mut scores = [0.0; CLASSES.len()];
        scores[CLASSES.iter().position(|class| class.predicted.label == label).unwrap()] = score;
        let verdict = Verdict::of_scores(&scores).unwrap();
        assert_eq!(verdict.score, f64::from(score));
        (verdict.label, verdict.dl_label.zip(verdict.overwrite_reason))
    }

    #[test]
    fn a_score_below_the_least_for_its_class_becomes_something_general() {
        assert_eq!(verdict("python", 0.5), ("python", None));
        assert_eq!(verdict("python", 0.499), ("txt", Some(("python", Reason::LowConfidence))));
        assert_eq!(verdict("elf", 0.4), ("unknown", Some(("elf", Reason::LowConfidence))));
        assert_eq!(verdict("markdown", 0.74), ("txt", Some(("markdown", Reason::LowConfidence))));
        assert_eq!(verdict("markdown", 0.75), ("markdown", None));
        // 0.9 as an f32 is below 0.9 as Python's float, which the package compares it with.
        assert_eq!(verdict("zig", 0.9), ("txt", Some(("zig", Reason::LowConfidence))));
        assert_eq!(verdict("txt", 0.1), ("txt", None));
    }

    #[test]
    fn classes_of_noise_stand_for_something_general() {
        assert_eq!(verdict("randombytes", 0.9), ("unknown", Some(("randombytes", Reason::OverwriteMap))));
        assert_eq!(verdict("randomtxt", 0.9), ("txt", Some(("randomtxt", Reason::OverwriteMap))));
        assert_eq!(verdict("randombytes", 0.2), ("unknown", Some(("randombytes", Reason::LowConfidence))));
    }

    #[test]
    fn without_the_model_bytes_are_text_or_not() {
        let label = |content: &[u8]| Verdict::without_model(content).label;
        assert_eq!([label(b""), label(b"hi"), label("é".as_bytes()), label(b"\xff\xfe")], ["empty", "txt", "txt", "unknown"]);
        // Python refuses a lone surrogate, too.
        assert_eq!(label(b"\xed\xa0\x80"), "unknown");
    }

    #[test]
    fn of_equal_scores_the_first_counts_and_a_wrong_count_is_refused() {
        assert_eq!(Verdict::of_scores(&[0.25; CLASSES.len()]).unwrap().dl_label, Some("3gp"));
        assert_eq!(Verdict::of_scores(&[1.0; 3]), Err(Error::internal("the model gave 3 scores, not 214")));
    }

    #[test]
    fn the_answer_reads_like_this() {
        let python = CLASSES.iter().find(|class| class.predicted.label == "python").unwrap();
        let answer = serde_json::to_string(&Verdict::of_class(python, 0.25)).unwrap();
        let expected = concat!(
            r#"{"label":"txt","score":0.25,"description":"Generic text document","mime_type":"text/plain","group":"text","#,
            r#""extensions":["txt"],"is_text":true,"dl_label":"python","overwrite_reason":"low_confidence"}"#
        );
        assert_eq!(answer, expected);
    }
}
