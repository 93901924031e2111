"""What the support desk talks about: per topic user prompts, and the sentences that replies are made of.

``{product}``, ``{order}``, ``{days}``, ``{amount}``, ``{city}``, ``{device}``, ``{code}`` are details. A reply sentence that needs
a detail which neither the prompt nor the desk supplies is not chosen. ``<slot>`` is a word slot (see ``slots.py``).
``held_out`` prompts never reach training or extraction.
"""

BRANDS = ["Aurora", "Kite", "Nimbus", "Otter", "Heron", "Maple", "Comet", "Birch", "Falcon", "Willow", "Ember", "Lotus", "Quartz", "Raven", "Delta", "Coral", "Sparrow", "Harbor", "Meadow", "Juniper"]
KINDS = ["lamp", "router", "drive", "speaker", "camera", "keyboard", "headphones", "tablet", "watch", "thermostat", "printer", "phone", "app", "charger"]
SYLLABLES = ["ba", "ko", "ri", "ne", "lu", "ta", "vo", "mi", "sa", "do", "fe", "zu", "pa", "qui", "ho", "ge"]
CITIES = ["Lisbon", "Oslo", "Dublin", "Prague", "Vienna", "Porto", "Bergen", "Ghent", "Turin", "Leeds"]
DEVICES = ["phone", "laptop", "tablet", "desktop", "work computer"]
COMPANIES = ["Northwind", "Bluebird", "Greenhill", "Silverlake", "Redwood", "Lakeside"]

TOPICS: dict[str, dict[str, list[str]]] = {
    "billing": {
        "trouble": ["the extra charge", "the wrong invoice", "the double payment"],
        "thing": ["invoice", "charge", "bill"],
        "prompts": [
            "I was charged {amount} dollars twice this month.", "Why is there a charge of {amount} dollars on my card?",
            "My invoice for the {product} is wrong.", "The bill for order {order} is higher than the price you showed.",
            "You billed me for the {product} but I never bought it.", "Can you explain the fee on my last invoice?",
            "My card was billed two times for order {order}.", "There is an unknown payment of {amount} dollars to you.",
            "The invoice does not show my tax number.", "I paid the bill but it still says unpaid.",
            "Where can I find the invoice for my {product}?", "Your charge is {amount} dollars too high.",
        ],
        "held_out": [
            "I see a double charge for the {product} on my bank account.", "Somebody took {amount} dollars from my card for an invoice I do not know.",
            "Please send me a corrected bill for order {order}.", "Is the {amount} dollars fee on my bill a mistake?", "I got billed again although I already paid the invoice.",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> invoice<tail><end>", "<start> the charge came from a <adj> billing error<tail><end>",
            "<start> the second payment was only a <adj> card hold<tail><end>", "<start> the charge of {amount} dollars is <state><end>",
            "<start> the bill for order {order} is <state><end>", "<start> the fee on the bill is a <adj> tax<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <fix> the <adj> charge<tail><end>", "<start> <we> will <advf> <send> a <adj> invoice<tail><end>",
            "<please> compare the bill with your <adj> bank statement<tail><end>", "<start> <we> <advp> removed the <adj> fee from the bill<tail><end>",
            "<please> send us the <adj> card statement<tail><end>",
        ],
        "next": [
            "<start> the <adj> payment will <advf> show on your card in {days} days<tail><end>", "<start> the <adj> bill will <advf> be corrected in {days} days<tail><end>",
            "<start> <we> will <advf> <tell> once the <adj> invoice is right<tail><end>",
        ],
        "clip": ["Charge reversed", "Invoice corrected", "Billing error, fixed", "New bill in {days} days", "Send the card statement"],
    },
    "login": {
        "trouble": ["the login trouble", "the locked account", "the forgotten password"],
        "thing": ["password", "account", "login"],
        "prompts": [
            "I cannot log in to my account.", "My password does not work on the {device}.", "The login page says error {code}.",
            "I forgot my password and the reset mail never comes.", "My account is locked after three tries.", "How do I reset my password?",
            "The {product} asks me to sign in again and again.", "I changed my phone and lost the login code.", "Sign in fails on my {device} since yesterday.",
            "My user name is not accepted any more.", "The security code for my account never arrives.", "I am locked out of the {product} account.",
        ],
        "held_out": [
            "Logging in on my {device} is impossible, the password is always wrong.", "Why was my account locked today?", "I need a new password for the {product} account.",
            "The login code does not reach my {device}.", "Signing in gives me error {code} and then the account page is empty.",
        ],
        "diag": [
            "<start> <we> <advp> <check> your <adj> account<tail><end>", "<start> the account was locked by a <adj> security rule<tail><end>",
            "<start> the <adj> login code went to an old address<tail><end>", "<start> error {code} means that the <adj> password has expired<tail><end>",
            "<start> the login on your {device} is <state><end>", "<start> the password reset is <state><end>",
        ],
        "act": [
            "<start> <we> will <advf> <send> a <adj> password link<tail><end>", "<start> <we> <advp> unlocked the <adj> account<tail><end>",
            "<please> choose a <adj> password with twelve letters<tail><end>", "<please> open the <adj> login page on your {device}<tail><end>",
            "<please> sign out and sign in with the <adj> code<tail><end>",
        ],
        "next": [
            "<start> the <adj> login link will <advf> work for {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> account is open<tail><end>",
            "<start> your <adj> password will <advf> be active at once<tail><end>",
        ],
        "clip": ["Account unlocked", "Reset link sent", "Use a new password", "Login code resent", "Sign in again"],
    },
    "delivery": {
        "trouble": ["the late parcel", "the lost delivery", "the missing package"],
        "thing": ["parcel", "delivery", "package"],
        "prompts": [
            "Where is my parcel with order {order}?", "My {product} has not arrived yet.", "The delivery to {city} is a week late.",
            "Tracking for order {order} has not moved for days.", "The courier left my package at the wrong door.", "When will the {product} be shipped to {city}?",
            "My package says delivered but I have nothing.", "Can you change the delivery address to {city}?", "The box with my {product} was empty.",
            "I was not home when the courier came.", "How long does shipping to {city} take?", "My order {order} is stuck in the warehouse.",
        ],
        "held_out": [
            "I am still waiting for the package with my {product}.", "Has order {order} left the warehouse for {city}?", "The tracking page lost my parcel.",
            "My courier never showed up in {city} with the {product}.", "Why does shipping order {order} take so long?",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> tracking page<tail><end>", "<start> the parcel is waiting in a <adj> warehouse<tail><end>",
            "<start> the courier to {city} had a <adj> delay<tail><end>", "<start> the package with your {product} is <state><end>",
            "<start> the delivery of order {order} is <state><end>", "<start> the courier used a <adj> address<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <send> a <adj> parcel<tail><end>", "<start> <we> <advp> asked the <adj> courier to come again<tail><end>",
            "<please> confirm the <adj> delivery address<tail><end>", "<please> look for the <adj> package at your neighbour<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> shipping label<tail><end>",
        ],
        "next": [
            "<start> the <adj> parcel will <advf> arrive in {days} days<tail><end>", "<start> the <adj> courier will <advf> reach {city} in {days} days<tail><end>",
            "<start> <we> will <advf> <tell> once the <adj> package has shipped<tail><end>",
        ],
        "clip": ["Parcel in the warehouse", "Courier comes again", "Delivery in {days} days", "Package found", "Confirm the address"],
    },
    "refund": {
        "trouble": ["the missing refund", "the money you sent back for", "the slow return"],
        "thing": ["refund", "return", "credit"],
        "prompts": [
            "I want my money back for the {product}.", "When do I get the refund for order {order}?", "I returned the {product} but saw no refund.",
            "Can I return the {product} after a month?", "The refund of {amount} dollars is missing.", "You refunded less than {amount} dollars to me.",
            "How do I send the {product} back?", "I would like to return order {order}.", "The return label does not print.",
            "Do I get a full refund if the box is open?", "My refund went to an old card.", "I sent everything back, where is my money?",
        ],
        "held_out": [
            "Please give me a refund for the {product}.", "I am waiting for {amount} dollars of refund since I returned order {order}.", "How long until the money for my return is back?",
            "The shop promised my money back for order {order}.", "Is it too late to return my {product}?",
        ],
        "diag": [
            "<start> <we> <advp> <check> your <adj> return<tail><end>", "<start> the refund was held by a <adj> bank rule<tail><end>",
            "<start> the refund of {amount} dollars is <state><end>", "<start> the return of the {product} is <state><end>",
            "<start> the returned box went to a <adj> store<tail><end>", "<start> the money back request has a <adj> form<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <send> a <adj> return label<tail><end>", "<start> <we> <advp> approved the <adj> refund<tail><end>",
            "<please> pack the returned item in a <adj> box<tail><end>", "<please> give us the <adj> card for the money<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> refund<tail><end>",
        ],
        "next": [
            "<start> the <adj> refund will <advf> reach your bank in {days} days<tail><end>", "<start> your <adj> money will <advf> be back in {days} days<tail><end>",
            "<start> <we> will <advf> <tell> once the <adj> return is here<tail><end>",
        ],
        "clip": ["Refund approved", "Money back in {days} days", "Return label sent", "Refund on its way", "Send it back"],
    },
    "crash": {
        "trouble": ["the crash", "the sudden freeze", "the broken start screen"],
        "thing": ["crash report", "update", "bug"],
        "prompts": [
            "The {product} crashes when I open it.", "My {product} freezes after the update.", "I get error {code} and then it closes.",
            "The app stops every time I save a file.", "The screen of my {product} stays black.", "It keeps crashing on my {device}.",
            "After the last version the {product} will not start.", "There is a bug that closes the window.", "My {product} restarts by itself.",
            "The program hangs with error {code}.", "Everything freezes when I press print.", "A crash ate my work on the {device}.",
        ],
        "held_out": [
            "Since the update my {product} crashes all day.", "Why does the app freeze on my {device}?", "The {product} shows error {code} and crashes.",
            "It closes by itself when I open a file, is this a bug?", "My {device} hangs each time the program starts.",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> crash report<tail><end>", "<start> the crash comes from a <adj> bug<tail><end>",
            "<start> error {code} points to a <adj> memory bug<tail><end>", "<start> the last update of the {product} is <state><end>",
            "<start> the freeze on your {device} is <state><end>", "<start> a <adj> plugin made the program crash<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <fix> the <adj> bug<tail><end>", "<please> install the <adj> update<tail><end>",
            "<please> restart and <send> the <adj> crash report<tail><end>", "<start> <we> <advp> rolled back the <adj> version<tail><end>",
            "<please> remove the <adj> plugin that freezes it<tail><end>",
        ],
        "next": [
            "<start> the <adj> update against the crash will <advf> come in {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> bug is gone<tail><end>",
            "<start> the <adj> program will <advf> start without a freeze<tail><end>",
        ],
        "clip": ["Known bug", "Install the update", "Crash fix in {days} days", "Restart it", "Send the crash report"],
    },
    "cancel": {
        "trouble": ["the unwanted subscription", "the renewed plan", "the open contract"],
        "thing": ["subscription", "plan", "contract"],
        "prompts": [
            "I want to cancel my subscription.", "How do I end my {product} plan?", "My plan was renewed although I cancelled it.",
            "Please stop the subscription for the {product}.", "I do not need the yearly plan any more.", "Can I cancel my contract before the end of the year?",
            "The cancel button does nothing.", "Please close my membership.", "I moved to {city} and must end the contract.",
            "Can I pause my subscription for a month?", "Cancel the plan under order {order}, please.", "Is there a fee if I leave the plan early?",
        ],
        "held_out": [
            "I would like to end the subscription for my {product}.", "Please cancel plan {order} for me.", "My membership renewed itself and I do not want the contract.",
            "What must I do to stop the yearly {product} plan?", "I am moving to {city}, please cancel my plan.",
        ],
        "diag": [
            "<start> <we> <advp> <check> your <adj> subscription<tail><end>", "<start> the plan was renewed by a <adj> contract rule<tail><end>",
            "<start> the subscription for the {product} is <state><end>", "<start> the contract has a <adj> notice period<tail><end>",
            "<start> the end of your plan is <state><end>", "<start> the cancel button needs a <adj> confirmation<tail><end>",
        ],
        "act": [
            "<start> <we> <advp> cancelled the <adj> plan<tail><end>", "<start> <we> will <advf> <send> a <adj> cancellation letter<tail><end>",
            "<please> confirm the <adj> end of the contract<tail><end>", "<please> press cancel on the <adj> plan page<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> renewal<tail><end>",
        ],
        "next": [
            "<start> the <adj> subscription will <advf> end in {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> contract is closed<tail><end>",
            "<start> the <adj> plan will <advf> not renew<tail><end>",
        ],
        "clip": ["Plan cancelled", "Subscription ends in {days} days", "Contract closed", "No renewal", "Confirm the cancellation"],
    },
    "setup": {
        "trouble": ["the hard setup", "the failed installation", "the missing cable guide"],
        "thing": ["setup", "installation", "manual"],
        "prompts": [
            "How do I set up the {product}?", "I cannot install the {product} on my {device}.", "The setup stops at step three.",
            "Which cable do I need for the {product}?", "The installer says error {code}.", "How do I connect the {product} to the network?",
            "I lost the manual for my {product}.", "The {product} does not find my {device} during setup.", "Where do I download the installer?",
            "Do I need a driver for the {product}?", "The pairing with my {device} fails.", "Can you guide me through the first installation?",
        ],
        "held_out": [
            "Please help me install the {product}.", "Setting up the {product} with my {device} does not work.", "The installer never gets past error {code}.",
            "Is there a manual that explains the first setup?", "How should I connect and pair my new {product}?",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> setup guide<tail><end>", "<start> the installer needs a <adj> driver<tail><end>",
            "<start> pairing with your {device} is <state><end>", "<start> the setup of the {product} is <state><end>",
            "<start> error {code} means a <adj> cable is loose<tail><end>", "<start> the manual has a <adj> page on pairing<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <send> a <adj> manual<tail><end>", "<please> plug the <adj> cable in and run the installer<tail><end>",
            "<please> download the <adj> driver<tail><end>", "<please> hold the <adj> pairing button<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> installer<tail><end>",
        ],
        "next": [
            "<start> the <adj> setup will <advf> take ten minutes<tail><end>", "<start> <we> will <advf> <tell> once the <adj> installer is ready<tail><end>",
            "<start> the <adj> light will <advf> turn green after the setup<tail><end>",
        ],
        "clip": ["Run the installer", "Plug in the cable", "Manual sent", "Hold the pairing button", "Setup takes ten minutes"],
    },
    "battery": {
        "trouble": ["the weak battery", "the empty battery", "the slow charging"],
        "thing": ["battery", "charger", "power check"],
        "prompts": [
            "The battery of my {product} dies in an hour.", "My {product} does not charge any more.", "The battery is hot after charging.",
            "How long should the battery of the {product} last?", "It only charges to half.", "The power light on my {product} blinks red.",
            "Can I replace the battery myself?", "My {product} turns off at twenty percent.", "Charging takes the whole night.",
            "The battery drains while my {product} sleeps.", "Which charger fits the {product}?", "The charging port is loose.",
        ],
        "held_out": [
            "Why does the battery in my {product} drain so fast?", "My {product} will not hold power for {days} hours.", "Charging my {product} is very slow now.",
            "The battery gets hot and the power light blinks.", "I think my charger is broken, the battery stays empty.",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> battery data<tail><end>", "<start> the battery lost power through a <adj> background task<tail><end>",
            "<start> the charging port has a <adj> layer of dust<tail><end>", "<start> the battery of your {product} is <state><end>",
            "<start> the charger gives a <adj> current<tail><end>", "<start> the power light is <state><end>",
        ],
        "act": [
            "<start> <we> will <advf> <send> a <adj> battery<tail><end>", "<please> use the <adj> charger from the box<tail><end>",
            "<please> charge it with a <adj> cable overnight<tail><end>", "<please> lower the <adj> screen light to save power<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> charging port<tail><end>",
        ],
        "next": [
            "<start> the <adj> battery will <advf> last {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> charger has shipped<tail><end>",
            "<start> the <adj> power light will <advf> stay green<tail><end>",
        ],
        "clip": ["Battery worn out", "Use the old charger", "New battery in {days} days", "Clean the charging port", "Charge it overnight"],
    },
    "sync": {
        "trouble": ["the failed sync", "the missing files", "the old backup"],
        "thing": ["sync", "backup", "cloud folder"],
        "prompts": [
            "My files do not sync to the {device}.", "The {product} lost my backup.", "Photos from my {device} are missing in the cloud.",
            "Sync stops with error {code}.", "The cloud folder is empty on my {device}.", "My notes show an old version after the sync.",
            "How do I restore a backup of the {product}?", "The {product} makes two copies of every file.", "My calendar does not sync any more.",
            "Upload to the cloud never ends.", "Can I move my backup to the {product}?", "The sync between {device} and {product} is broken.",
        ],
        "held_out": [
            "Nothing syncs between my {product} and the {device}.", "Where did the files from my cloud backup go?", "I need to restore the photos that the sync deleted.",
            "The backup on my {device} ends with error {code}.", "Why are my notes not in the cloud folder?",
        ],
        "diag": [
            "<start> <we> <advp> <check> your <adj> cloud folder<tail><end>", "<start> the sync was stopped by a <adj> conflict<tail><end>",
            "<start> the backup of your files is <state><end>", "<start> error {code} means a <adj> file is too big to sync<tail><end>",
            "<start> the cloud copy from your {device} is <state><end>", "<start> the files went to a <adj> folder<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <fix> the <adj> sync<tail><end>", "<start> <we> <advp> restored the <adj> backup<tail><end>",
            "<please> turn the <adj> sync off and on<tail><end>", "<please> free some space in the <adj> cloud<tail><end>",
            "<start> <we> will <advf> <send> a <adj> copy of the files<tail><end>",
        ],
        "next": [
            "<start> the <adj> files will <advf> be in the cloud in {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> backup is complete<tail><end>",
            "<start> the <adj> sync will <advf> run at night<tail><end>",
        ],
        "clip": ["Sync restarted", "Files are in the cloud", "Backup restored", "Free some space", "Sync done in {days} days"],
    },
    "speed": {
        "trouble": ["the slow connection", "the lag", "the bad signal"],
        "thing": ["connection", "signal", "speed test"],
        "prompts": [
            "The {product} is very slow today.", "My connection drops every hour.", "Pages load slowly on the {device}.",
            "The wifi signal of the {product} is weak.", "Video lags on my {device}.", "I get a tenth of the speed I pay for.",
            "Everything is slow in {city} in the evening.", "The {product} takes minutes to answer.", "My network is down in {city}.",
            "Why is the download so slow?", "The wifi does not reach the kitchen.", "There is a big delay in every call.",
        ],
        "held_out": [
            "Why has my wifi become so slow on the {device}?", "The connection in {city} lags every evening.", "My {product} loads pages at a very low speed.",
            "The signal drops and downloads are slow.", "Calls on the {product} have a terrible lag.",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> network<tail><end>", "<start> the lag comes from a <adj> wifi channel<tail><end>",
            "<start> the connection in {city} is <state><end>", "<start> the signal of the {product} is <state><end>",
            "<start> the network has a <adj> load in the evening<tail><end>", "<start> a <adj> wall weakens the wifi signal<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <fix> the <adj> connection<tail><end>", "<please> run a <adj> speed test<tail><end>",
            "<please> choose a <adj> wifi channel<tail><end>", "<start> <we> <advp> raised the <adj> network speed<tail><end>",
            "<please> move closer to the <adj> wifi signal<tail><end>",
        ],
        "next": [
            "<start> the <adj> network will <advf> be faster in {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> connection is stable<tail><end>",
            "<start> the <adj> signal will <advf> be stronger<tail><end>",
        ],
        "clip": ["Network overloaded", "Change the wifi channel", "Run a speed test", "Faster in {days} days", "Signal is weak"],
    },
    "privacy": {
        "trouble": ["the privacy question", "the stored data", "the shared profile"],
        "thing": ["data request", "profile", "privacy setting"],
        "prompts": [
            "Please delete all my personal data.", "What data does the {product} collect?", "I want a copy of my data.",
            "Who can see my profile?", "How do I stop the {product} from tracking me?", "You sent my data to another company.",
            "I do not want to get your newsletter.", "Is the {product} recording my voice?", "Please erase my profile.",
            "Where is my data stored?", "Turn off the location tracking on my {device}.", "Did somebody read my private messages?",
        ],
        "held_out": [
            "I would like you to erase the personal data from my {product}.", "Does the {product} share private data with anyone?", "Please send me all data in my profile.",
            "How can I turn off tracking on the {device}?", "I am worried about my privacy, who reads my messages?",
        ],
        "diag": [
            "<start> <we> <advp> <check> your <adj> data<tail><end>", "<start> the profile is hidden by a <adj> privacy setting<tail><end>",
            "<start> the tracking on your {device} is <state><end>", "<start> the data in the {product} is <state><end>",
            "<start> personal data stays on a <adj> server<tail><end>", "<start> the newsletter used a <adj> consent<tail><end>",
        ],
        "act": [
            "<start> <we> <advp> deleted the <adj> data<tail><end>", "<start> <we> will <advf> <send> a <adj> copy of your data<tail><end>",
            "<please> open the <adj> privacy page<tail><end>", "<please> switch the <adj> tracking off<tail><end>",
            "<start> <we> will <advf> <fix> the <adj> privacy setting<tail><end>",
        ],
        "next": [
            "<start> the <adj> data will <advf> be erased in {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> profile is private<tail><end>",
            "<start> the <adj> tracking will <advf> stay off<tail><end>",
        ],
        "clip": ["Data deleted", "Tracking is off", "Profile is private", "Data copy in {days} days", "Open the privacy page"],
    },
    "warranty": {
        "trouble": ["the broken part", "the repair", "the warranty claim"],
        "thing": ["repair", "warranty claim", "spare part"],
        "prompts": [
            "My {product} broke, is it under warranty?", "The screen of the {product} is cracked.", "How long is the warranty on the {product}?",
            "A part fell off my {product}.", "Where can I get the {product} repaired in {city}?", "The repair of my {product} takes too long.",
            "You rejected my warranty claim.", "I need a spare part for the {product}.", "The {product} was damaged in the rain.",
            "What does a repair cost after the warranty?", "The button on my {product} is broken.", "My {product} came back from repair with a scratch.",
        ],
        "held_out": [
            "Does the warranty cover a cracked {product}?", "I dropped my {product} and it needs a repair.", "My claim for the broken part of order {order} was refused.",
            "Is there a repair shop for the {product} in {city}?", "Please replace the damaged button on my {product}.",
        ],
        "diag": [
            "<start> <we> <advp> <check> the <adj> warranty<tail><end>", "<start> the damage came from a <adj> fall<tail><end>",
            "<start> the warranty of your {product} is <state><end>", "<start> the repair shop in {city} is <state><end>",
            "<start> the broken part has a <adj> crack<tail><end>", "<start> the repair is under a <adj> warranty<tail><end>",
        ],
        "act": [
            "<start> <we> will <advf> <fix> the <adj> part<tail><end>", "<start> <we> will <advf> <send> a <adj> spare part<tail><end>",
            "<please> bring it to the <adj> repair shop<tail><end>", "<please> take a <adj> photo of the damage<tail><end>",
            "<start> <we> <advp> accepted the <adj> warranty claim<tail><end>",
        ],
        "next": [
            "<start> the <adj> repair will <advf> take {days} days<tail><end>", "<start> <we> will <advf> <tell> once the <adj> spare part is here<tail><end>",
            "<start> the <adj> technician will <advf> look at the damage in {days} days<tail><end>",
        ],
        "clip": ["Warranty claim accepted", "Spare part sent", "Repair takes {days} days", "Send a photo of the damage", "Bring it to the repair shop"],
    },
}

# Anything else: greetings and questions about the desk itself.
SMALL_TALK = {
    "prompts": ["Hello.", "Hi there!", "Good morning.", "Who are you?", "What can you do?", "Are you a robot?", "Can you help me?", "Tell me a story.", "What is the weather like?", "I have a question."],
    "lines": [
        "<start> <we> will <advf> help with orders, accounts and devices<tail><end>", "<start> this is a <adj> support desk<tail><end>",
        "<please> describe the <adj> problem<tail><end>", "<please> tell us the <adj> order number<tail><end>",
        "<start> <we> will <advf> <fix> the <adj> problem<tail><end>",
    ],
    "clip": ["Support desk here", "Describe the problem", "Order number"],
}

# Later turns of a conversation; {thing} is the topic's noun.
FOLLOW_UPS = {
    "time": {
        "prompts": ["How long will that take?", "When will it be done?", "Is there a date for this?", "How many days do I have to wait?"],
        "lines": ["<start> the <adj> {thing} will <advf> take {days} days<tail><end>", "<start> <we> will <advf> <tell> about the <adj> {thing} in {days} days<tail><end>", "<please> give the <adj> {thing} {days} days<tail><end>"],
        "clip": ["{days} days", "Wait {days} days"],
    },
    "still": {
        "prompts": ["That did not help.", "It is still the same.", "I tried that already.", "The problem is still there.", "No change so far."],
        "lines": ["<start> <we> <advp> <check> the <adj> {thing} again<tail><end>", "<start> <we> will <advf> <fix> the <adj> {thing}<tail><end>", "<start> the {thing} is <state><end>", "<please> try the <adj> {thing} once more<tail><end>"],
        "clip": ["Try again", "Checking the {thing}"],
    },
    "thanks": {
        "prompts": ["Thank you!", "Thanks a lot.", "Great, that helped.", "Ok, thank you for now."],
        "lines": ["<welcome>", "<welcome>", "<start> the {thing} is <state><end>"],
        "clip": ["Fine", "Ok"],
    },
}

USER_STARTS = ["", "", "", "", "", "Hello, ", "Hi, ", "Hi there, ", "Good morning, ", "Excuse me, "]
USER_ENDS = ["", "", "", "", "", " Can you help?", " What can I do?", " Please help me.", " I need this today.", " It is the second time.", " Thanks.", " What is going on?", " I am not sure what to do."]
