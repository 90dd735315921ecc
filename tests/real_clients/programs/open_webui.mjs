// A person at Open WebUI: sends messages in one chat, and reads what is on the screen.
// Asked: {url, chromium, texts, stop, picture}; the answer is {text}, the last answer as it is shown.
import { chromium } from "playwright-core";
import { asked, answering } from "./asked.mjs";

const ANSWER_MS = 60_000; // until an answer is there, titles and tags included

async function open(browser) {
  const page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
  await page.goto(asked.url, { waitUntil: "domcontentloaded" });
  await page.locator("#chat-input").waitFor({ timeout: ANSWER_MS });
  const news = page.getByRole("button", { name: /Okay, Let's Go/ }); // on the first visit
  await news.click({ timeout: 5_000 }).catch(() => {});
  return page;
}

async function say(page, text, number) {
  const stop = page.getByRole("button", { name: "Stop", exact: true });
  await page.locator("#chat-input").click();
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
  const answer = page.locator(".chat-assistant").nth(number);
  await answer.waitFor({ timeout: ANSWER_MS });
  if (asked.stop) {
    await answer.getByText(asked.stop).waitFor({ timeout: ANSWER_MS });
    await stop.click();
  }
  await stop.waitFor({ state: "detached", timeout: ANSWER_MS });
  return answer;
}

await answering(async () => {
  const browser = await chromium.launch({ executablePath: asked.chromium, args: ["--no-sandbox"] });
  try {
    const page = await open(browser);
    let answer;
    for (const [number, text] of asked.texts.entries()) answer = await say(page, text, number);
    await page.waitForTimeout(500); // the last words are painted
    if (asked.picture) await page.screenshot({ path: asked.picture });
    return await answer.innerText();
  } finally {
    await browser.close();
  }
});
