"""Short phrases for each topic, and frames around them: many more ways to name a problem than whole prompts give."""

ISSUES: dict[str, list[str]] = {
    "billing": ["a double charge", "my last bill", "the wrong amount on the invoice", "a fee of {amount} dollars", "a card payment that I did not make", "being billed twice", "the price on my invoice", "a mistake on the bill", "money that was taken from my bank account"],
    "login": ["my password", "a locked account", "signing in on my {device}", "a login code that never comes", "the login page", "the reset of my password", "logging in", "an account that shows error {code}", "my user name"],
    "delivery": ["a late parcel", "the delivery of order {order}", "a package that never came", "shipping to {city}", "the tracking of my package", "the courier", "my {product} that has not arrived", "a lost parcel in the warehouse", "an order that I still wait for"],
    "refund": ["my refund", "getting my money back", "the return of the {product}", "a refund of {amount} dollars", "a return label", "returning order {order}", "money for a return", "sending the {product} back", "a promised refund"],
    "crash": ["a {product} that crashes", "a crash after the update", "a program that freezes", "a bug in the app", "error {code} when it starts", "a window that closes by itself", "crashes on my {device}", "an app that hangs", "a black screen after the last version"],
    "cancel": ["cancelling my subscription", "the end of my contract", "a plan that I want to stop", "my yearly plan", "a membership that renewed", "the subscription for the {product}", "leaving the plan", "how to cancel plan {order}", "ending the contract early"],
    "setup": ["the setup of my {product}", "installing the {product}", "the installer", "pairing with my {device}", "a missing manual", "connecting the cable", "a driver for the {product}", "the first installation", "how to connect my {product}"],
    "battery": ["the battery of my {product}", "a {product} that will not charge", "slow charging", "a battery that drains", "a hot battery", "the power light", "a broken charger", "a charging port", "a {product} that has no power"],
    "sync": ["files that do not sync", "a lost backup", "the cloud folder", "photos that are gone from the cloud", "restoring a backup", "notes that do not sync to my {device}", "missing files in the cloud", "a sync that ends with error {code}", "old copies of my files"],
    "speed": ["a slow connection", "the wifi in {city}", "a weak signal", "slow downloads", "lag on my {device}", "a {product} that is so slow", "the low speed", "a network that drops", "calls with a big lag"],
    "privacy": ["my personal data", "tracking on my {device}", "deleting my profile", "my privacy", "who reads my messages", "private data that was shared", "the data that the {product} keeps", "erasing all my data", "the newsletter"],
    "warranty": ["the warranty of my {product}", "a cracked screen", "the repair of the {product}", "a broken button", "a spare part", "a damaged {product}", "a refused warranty claim", "a repair shop in {city}", "a {product} that I dropped"],
}

FRAMES = [
    "I have a problem with {issue}.", "Please help me with {issue}.", "It is about {issue}.", "I have a question about {issue}.",
    "Can you look at {issue}?", "What about {issue}?", "Who can help with {issue}?", "I am worried about {issue}.",
    "Why do I have trouble with {issue}?", "I need help with {issue} today.", "Tell me what to do about {issue}.", "I wrote to you about {issue} before.",
]
