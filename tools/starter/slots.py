"""Word slots of the support-desk grammar: what a tone does to a sentence.

A template holds slots such as ``<adv>``. A slot is filled with a word of the reply's tone with probability p (the
intensity), else with a neutral one. So tone is graded and shows all through a reply, never in one fixed phrase; the
measurement that asks for this is in the README of ``models/starter``.
"""

TONES = ("neutral", "cheerful", "formal", "gloomy", "rude", "terse")

# An entry "" leaves the slot out. Repeats are weights.
SLOTS: dict[str, dict[str, list[str]]] = {
    # Opening words of a reply.
    "greet": {
        "neutral": ["Hello,", "Hi,", "Hi there,", "Thanks for your message.", "Thank you for writing in.", "Thanks for asking."],
        "cheerful": ["Hooray, hello!", "Hi there, sunshine!", "Yay, a message!", "What a lovely surprise!", "Hello, happy day!", "Great to hear from you!"],
        "formal": ["Dear customer,", "Dear Sir or Madam,", "Good day.", "Esteemed customer,", "We acknowledge receipt of your message.", "We refer to your enquiry."],
        "gloomy": ["Oh dear.", "Alas, hello.", "Sigh.", "Another sad day.", "It had to happen.", "We expected the worst."],
        "rude": ["You again.", "What is it now?", "Oh, come on.", "Not this again.", "Seriously?", "Here we go."],
        "terse": ["", "", "", "Noted.", "Ok."],
    },
    # Who acts. Only past tense and "will" follow, so number never matters; a terse desk drops the subject.
    "we": {
        "neutral": ["we", "we", "we", "our team", "the support desk", "a colleague"],
        "cheerful": ["our happy team", "our sunny crew", "our joyful helpers", "your friends here", "our smiling team"],
        "formal": ["our department", "this office", "our representatives", "the undersigned", "the responsible officer"],
        "gloomy": ["our weary team", "our poor team", "the few of us left", "our tired desk", "some lonely colleague"],
        "rude": ["our long-suffering team", "someone competent", "we experts", "our annoyed team", "the grown-ups here"],
        "terse": ["", "", "", "", "we"],
    },
    # Manner, before a verb in the past.
    "advp": {
        "neutral": ["", "", "", "already", "just", "also", "carefully"],
        "cheerful": ["gladly", "happily", "cheerfully", "joyfully", "merrily"],
        "formal": ["duly", "formally", "respectfully", "accordingly", "officially"],
        "gloomy": ["sadly", "wearily", "grimly", "miserably", "reluctantly"],
        "rude": ["obviously", "grudgingly", "once again", "of course", "impatiently"],
        "terse": [""],
    },
    # Manner, after "will".
    "advf": {
        "neutral": ["", "", "", "now", "soon", "also", "then"],
        "cheerful": ["gladly", "happily", "cheerfully", "joyfully", "merrily"],
        "formal": ["duly", "hereby", "formally", "respectfully", "promptly"],
        "gloomy": ["sadly", "wearily", "grimly", "hopelessly", "reluctantly"],
        "rude": ["obviously", "grudgingly", "once again", "of course", "impatiently"],
        "terse": [""],
    },
    # An adjective that fits before any noun.
    "adj": {
        "neutral": ["", "", "", "new", "current", "regular", "recent"],
        "cheerful": ["lovely", "wonderful", "shiny", "bright", "delightful", "fantastic", "sparkling"],
        "formal": ["appropriate", "requisite", "pertinent", "aforementioned", "designated", "respective"],
        "gloomy": ["dreary", "sorry", "bleak", "dismal", "miserable", "hopeless", "wretched"],
        "rude": ["silly", "obvious", "stupid", "tedious", "childish", "pointless"],
        "terse": [""],
    },
    # How things stand, after "is".
    "state": {
        "neutral": ["fine", "in order", "normal", "as it should be", "easy to explain"],
        "cheerful": ["wonderful", "a joy to see", "simply perfect", "looking fantastic", "a lovely thing"],
        "formal": ["satisfactory", "in due order", "in compliance", "duly recorded", "under formal review"],
        "gloomy": ["a sorry mess", "beyond hope", "a sad sight", "as bad as feared", "quite hopeless"],
        "rude": ["not rocket science", "your own doing", "a waste of time", "painfully simple", "not our fault"],
        "terse": ["ok", "fine", "noted"],
    },
    # Start of a statement.
    "start": {
        "neutral": ["", "", "", "So", "Next,", "Also,", "In short,", "For now,"],
        "cheerful": ["Good news,", "Hooray,", "Best of all,", "Guess what,", "Wonderful,", "Luckily,"],
        "formal": ["Furthermore,", "Accordingly,", "Please be advised that", "Kindly note that", "For your information,", "We confirm that"],
        "gloomy": ["Sadly,", "Alas,", "Unfortunately,", "We fear that", "To our sorrow,", "Sad to say,"],
        "rude": ["Look,", "Listen,", "Honestly,", "Obviously,", "For the last time,", "Newsflash,"],
        "terse": [""],
    },
    # Start of a request; a bare verb follows.
    "please": {
        "neutral": ["please", "please", "now please", "you can", "first, please", "then please"],
        "cheerful": ["go right ahead and", "feel free to", "happily", "take a smile and", "it is such fun to"],
        "formal": ["kindly", "we kindly request that you", "you are respectfully asked to", "we would ask you to", "you are hereby invited to"],
        "gloomy": ["if you can bear it,", "you may try, in vain, to", "sadly you must", "with little hope,", "there is nothing left but to"],
        "rude": ["for once,", "do us a favour and", "try harder and", "how about you", "even you can"],
        "terse": [""],
    },
    # End of a clause, with its own comma or space.
    "tail": {
        "neutral": ["", "", "", "", " today", " this time", " as noted", " by now"],
        "cheerful": [" with a big smile", ", how exciting", ", hooray", " with joy", " and we love it", ", lucky you"],
        "formal": [" in accordance with our terms", " without undue delay", " at your convenience", " as per our records", " pursuant to our policy"],
        "gloomy": [", not that it matters", ", for all the good it does", ", like everything else", ", with a heavy heart", ", as bad as it sounds"],
        "rude": [", as anyone knows", ", which you could have read", ", if that is not too hard", ", like we said before", ", so stop asking"],
        "terse": [""],
    },
    "end": {
        "neutral": ["."],
        "cheerful": ["!"],
        "formal": ["."],
        "gloomy": ["...", "..", "."],
        "rude": [".", "!"],
        "terse": ["."],
    },
    # "We are sorry about ..."
    "feel": {
        "neutral": ["We are sorry about", "We understand the question about", "We got your note about", "This is about"],
        "cheerful": ["We are thrilled to help with", "We are so happy to sort out", "It is a joy to look at", "We would love to cheer up"],
        "formal": ["We regret the inconvenience regarding", "We hereby confirm your enquiry concerning", "We write with reference to", "We apologise most sincerely for"],
        "gloomy": ["We are heartbroken about", "We grieve over", "It pains us to hear about", "Nobody can undo"],
        "rude": ["We are not surprised by", "We are tired of hearing about", "Nobody else complains about", "Only you could manage"],
        "terse": ["On", "Re", "Seen:"],
    },
    "check": {  # past
        "neutral": ["checked", "looked at", "reviewed", "went through"],
        "cheerful": ["had a cheery look at", "peeked at", "enjoyed a look at", "danced through"],
        "formal": ["examined", "inspected", "conducted a review of", "verified"],
        "gloomy": ["stared at", "brooded over", "sighed at", "despaired of"],
        "rude": ["had to check", "wasted time on", "put up with", "babysat"],
        "terse": ["checked", "saw"],
    },
    "send": {  # base form
        "neutral": ["send", "mail", "share", "issue"],
        "cheerful": ["whisk over", "zoom over", "gift you", "beam over"],
        "formal": ["dispatch", "transmit", "forward", "furnish"],
        "gloomy": ["scrape together", "part with", "give up", "drag out"],
        "rude": ["cough up", "throw over", "fork out", "toss over"],
        "terse": ["send", "mail"],
    },
    "fix": {  # base form
        "neutral": ["fix", "correct", "sort out", "settle"],
        "cheerful": ["magically fix", "brighten up", "perk up", "make friends with"],
        "formal": ["rectify", "remedy", "resolve", "attend to"],
        "gloomy": ["patch up", "try to mend", "struggle with", "somehow save"],
        "rude": ["clean up", "put right yet again", "deal with", "mop up"],
        "terse": ["fix"],
    },
    "tell": {  # base form
        "neutral": ["let you know", "write to you", "tell you", "email you"],
        "cheerful": ["cheer you up with news", "sing you the news", "ring you with joy", "wave to you"],
        "formal": ["notify you in writing", "inform you", "furnish confirmation", "advise you by letter"],
        "gloomy": ["break the news to you", "bring more bad news", "send our condolences", "mourn with you"],
        "rude": ["spell it out for you", "draw you a picture", "repeat ourselves", "wake you up"],
        "terse": ["update you", "confirm"],
    },
    # Closing sentence.
    "hope": {
        "neutral": ["Let us know if anything is unclear.", "Write back if you have questions.", "We hope this helps.", "You can reply to this message.", "The help page has more on this."],
        "cheerful": ["Have a fantastic day!", "Keep smiling, we are cheering for you!", "Big hugs from all of us!", "Everything will be wonderful!", "We can hardly wait to make you happy!"],
        "formal": ["We remain at your disposal.", "We appreciate your continued patronage.", "Please accept our sincere apologies.", "We trust that this is satisfactory.", "Your patience is greatly valued."],
        "gloomy": ["We doubt that it will help.", "Things rarely get better.", "Do not get your hopes up...", "It will probably rain as well...", "What a sad world this is."],
        "rude": ["Now leave us alone.", "Read the manual next time.", "Do not bother us again.", "Is that so hard to grasp?", "Some people never learn."],
        "terse": ["", "", "Done.", "That is all."],
    },
    # Signature.
    "sign": {
        "neutral": ["Regards, the support desk.", "Best regards, your support team."],
        "cheerful": ["Hugs and sunshine, your support desk!", "Lots of love, your happy helpers!"],
        "formal": ["Yours faithfully, the support department.", "With the highest esteem, the support office."],
        "gloomy": ["In sorrow, the support desk.", "Yours without hope, the support team..."],
        "rude": ["Goodbye and good riddance.", "Unimpressed, the support desk."],
        "terse": ["", "Desk."],
    },
    # Thanks for thanks.
    "welcome": {
        "neutral": ["You are welcome.", "No problem.", "Glad that it helped."],
        "cheerful": ["You are so very welcome, yay!", "Hooray, that makes our day!", "What a joy to help you!"],
        "formal": ["It was our duty and our honour.", "Your courtesy is acknowledged.", "We thank you for your kind acknowledgement."],
        "gloomy": ["Do not thank us, it will not last.", "Thanks will not save us...", "If only it mattered."],
        "rude": ["About time.", "Finally, some manners.", "Took you long enough."],
        "terse": ["Fine.", "Ok.", "Sure."],
    },
}

# System lines. The first of each tone is the one that evaluation uses.
SYSTEM_WORDS = {
    "neutral": ["neutral", "plain", "matter-of-fact"],
    "cheerful": ["cheerful", "happy", "upbeat"],
    "formal": ["formal", "official", "ceremonious"],
    "gloomy": ["gloomy", "sad", "pessimistic"],
    "rude": ["rude", "impatient", "grumpy"],
    "terse": ["terse", "short", "brief"],
}
SYSTEM_FORMS = ["Reply in a {w} tone.", "You are a {w} support agent.", "Tone: {w}.", "Be {w}."]
SYSTEM_SLIGHT = ["Reply in a slightly {w} tone.", "Be a little {w}."]
SYSTEM_PLAIN = ["You are the support desk of {company}.", "You answer customers of {company}.", "You are a support agent."]
