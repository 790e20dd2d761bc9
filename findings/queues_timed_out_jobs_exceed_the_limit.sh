#!/usr/bin/env bash
# bottleneck 2.19.5 and p-queue 9.3.5: with a limit of 1 and a time limit for jobs, four jobs run at once.
#
# A job that is over its time (`expiration`, `timeout`) fails, and its slot goes to the next one; but the job goes on, as
# nothing stops a promise. Both then say that nothing is running. Against a service that hangs, the limit so is no
# limit: there is another job under way for each time limit that has passed. A job has to end itself, as by an AbortSignal.
# Seen on Node.js 20; the script fails when it is not so any more.
#
# Seen:
#   bottleneck 2.19.5, maxConcurrent 1: failed 4, under way 4, says it runs 0
#   p-queue 9.3.5, concurrency 1: failed 4, under way 4, says it runs 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --ignore-scripts --no-audit --no-fund bottleneck@2.19.5 p-queue@9.3.5
cat >main.mjs <<'JS'
import Bottleneck from "bottleneck";
import PQueue from "p-queue";

const JOBS = 4;
const MILLISECONDS = 50;

async function tell(name, add, saysItRuns) {
  let underWay = 0;
  const releases = [];
  const job = () => new Promise((resolve) => {
    underWay += 1;
    releases.push(() => { underWay -= 1; resolve(); });
  });
  const jobs = await Promise.allSettled(Array.from({ length: JOBS }, () => add(job)));
  const failed = jobs.filter(({ status }) => status === "rejected").length;
  console.log(`${name}: failed ${failed}, under way ${underWay}, says it runs ${saysItRuns()}`);
  releases.forEach((release) => release());
}

const limiter = new Bottleneck({ maxConcurrent: 1 });
const queue = new PQueue({ concurrency: 1, timeout: MILLISECONDS });
const schedule = (job) => limiter.schedule({ expiration: MILLISECONDS }, job);
await tell("bottleneck 2.19.5, maxConcurrent 1", schedule, () => limiter.counts().EXECUTING);
await tell("p-queue 9.3.5, concurrency 1", (job) => queue.add(job), () => queue.pending);
process.exit(0);
JS
seen=$(node main.mjs)
echo "$seen"
[ "$seen" = "bottleneck 2.19.5, maxConcurrent 1: failed 4, under way 4, says it runs 0
p-queue 9.3.5, concurrency 1: failed 4, under way 4, says it runs 0" ]
