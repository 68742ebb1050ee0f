//! One picture per scene: the latency over time, as SVG that is readable on light and dark pages.

use std::fmt::Write;

use crate::{
    figures::{PARTS, median},
    report::Row,
    scene::Scene,
};

const WIDTH: f64 = 770.0;
const HEIGHT: f64 = 340.0;
/// The frame of the curves.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 292.0;

/// Colours for light and for dark pages, after Okabe and Ito, which are told apart with any kind of colour vision. The
/// dashes tell the curves apart without colours.
const STYLES: [(&str, &str, &str); 10] = [
    ("#8a6d00", "#f0e442", "12 4"),
    ("#d55e00", "#e69f00", "7 3"),
    ("#007a5a", "#2fc79b", ""),
    ("#0072b2", "#56b4e9", ""),
    ("#a6538a", "#d691b8", "9 3 2 3"),
    ("#5a5a5a", "#b8b8b8", "4 2"),
    ("#24292f", "#ffffff", "5 2 1 2"),
    ("#007a5a", "#2fc79b", "7 3"),
    ("#8a6d00", "#f0e442", "2 3"),
    ("#5a5a5a", "#b8b8b8", "1 3"),
];

/// The strategies that have a style of their own, the same in all pictures.
const STYLED: [&str; STYLES.len()] = [
    "round_robin",
    "p2c_in_flight",
    "least_loaded",
    "peak_ewma",
    "tower_pending",
    "tower_ewma",
    "latency",
    "weighted",
    "shuffle",
    "oracle",
];

/// The style of each row: its own, or the next one if there is a row without a style of its own.
fn styles(rows: &[Row]) -> Vec<usize> {
    let own = rows.iter().map(|(strategy, _)| STYLED.iter().position(|styled| styled == strategy));
    let own: Option<Vec<_>> = own.collect();
    own.unwrap_or_else(|| (0..rows.len()).map(|number| number % STYLES.len()).collect())
}

/// Draws the 99th percentile of each strategy over time: the median of the seeds in each part of the time.
pub(crate) fn draw(scene: &Scene, rows: &[Row]) -> String {
    let curves: Vec<(&str, Vec<f64>)> = rows
        .iter()
        .map(|(strategy, runs)| {
            let part = |part: usize| median(runs.iter().map(|run| run.over_time[part]));
            (&**strategy, (0..PARTS).map(part).collect())
        })
        .collect();
    let axis = Axis::over(curves.iter().flat_map(|(_, values)| values.iter().copied()));
    let mut svg = String::new();
    head(&mut svg, scene);
    grid(&mut svg, scene, &axis);
    for (number, ((strategy, values), style)) in curves.iter().zip(styles(rows)).enumerate() {
        curve(&mut svg, style, values, &axis);
        legend(&mut svg, number, style, strategy);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A logarithmic axis of milliseconds, from one tick to another.
struct Axis {
    ticks: Vec<f64>,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, greatest) = (least.min(value), greatest.max(value));
        }
        if greatest == 0.0 {
            (least, greatest) = (1.0, 10.0);
        }
        let steps = (-3..7).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let steps: Vec<_> = steps.collect();
        let first = steps.iter().rposition(|step| *step <= least).unwrap_or(0);
        let last = steps.iter().position(|step| *step >= greatest).unwrap_or(steps.len() - 1);
        Self { ticks: steps[first..=last.max(first + 1)].to_vec() }
    }

    fn y(&self, value: f64) -> f64 {
        let (least, greatest) = (self.ticks[0].ln(), self.ticks[self.ticks.len() - 1].ln());
        BOTTOM - (value.ln() - least) / (greatest - least) * (BOTTOM - TOP)
    }
}

fn head(svg: &mut String, scene: &Scene) {
    let title = escaped(scene.title);
    let mut style = String::new();
    let mut dark = String::new();
    for (number, (light_colour, dark_colour, dashes)) in STYLES.iter().enumerate() {
        let _ = write!(style, ".c{number}{{stroke:{light_colour};stroke-dasharray:{}}}", dashed(dashes));
        let _ = write!(dark, ".c{number}{{stroke:{dark_colour}}}");
    }
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>\
         .b{{fill:#fff}}text{{font:12px sans-serif;fill:#24292f}}.t{{font-size:14px;font-weight:bold}}\
         .g{{stroke:#d0d7de}}path,.l{{fill:none;stroke-width:2}}{style}\
         @media(prefers-color-scheme:dark){{.b{{fill:#0d1117}}text{{fill:#e6edf3}}.g{{stroke:#30363d}}{dark}}}\
         </style>\n<rect class=\"b\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"24\">{title}</text>"
    );
}

fn dashed(dashes: &str) -> &str {
    if dashes.is_empty() { "none" } else { dashes }
}

fn grid(svg: &mut String, scene: &Scene, axis: &Axis) {
    for tick in &axis.ticks {
        let y = axis.y(*tick);
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let x = LEFT + share * (RIGHT - LEFT);
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 16.0,
            share * scene.seconds
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">time in s</text>\n\
         <text transform=\"translate(16 {:.0})rotate(-90)\" text-anchor=\"middle\">99th percentile in ms</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 36.0,
        (TOP + BOTTOM) / 2.0
    );
}

fn curve(svg: &mut String, style: usize, values: &[f64], axis: &Axis) {
    let mut path = String::new();
    let mut is_drawing = false;
    for (part, value) in values.iter().enumerate() {
        let command = match (*value > 0.0, is_drawing) {
            (false, _) => "",
            (true, false) => "M",
            (true, true) => "L",
        };
        is_drawing = !command.is_empty();
        if is_drawing {
            let x = LEFT + (part as f64 + 0.5) / PARTS as f64 * (RIGHT - LEFT);
            let _ = write!(path, "{command}{x:.0} {:.1}", axis.y(*value));
        }
    }
    let _ = writeln!(svg, "<path class=\"c{style}\" d=\"{path}\"/>");
}

fn legend(svg: &mut String, number: usize, style: usize, strategy: &str) {
    let y = TOP + 8.0 + 20.0 * number as f64;
    let _ = writeln!(
        svg,
        "<line class=\"l c{style}\" x1=\"{:.0}\" x2=\"{:.0}\" y1=\"{y:.0}\" y2=\"{y:.0}\"/>\
         <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
        RIGHT + 12.0,
        RIGHT + 40.0,
        RIGHT + 46.0,
        y + 4.0,
        escaped(strategy)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
