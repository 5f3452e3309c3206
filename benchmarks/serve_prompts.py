"""The chat prompts of serve.py."""

PROMPTS = (
    "Name three things that a small company should check before it moves its servers to another country.",
    "用两三句话说明为什么睡眠对学习很重要。",
    "Write a short letter to a neighbour whose dog barks every night, and stay polite.",
    "请把下面的句子改写得更正式：明天的会不开了，大家不用来。",
    "A shop sold 240 apples on Monday and a quarter fewer on Tuesday. How many did it sell on both days? Explain each step.",
    "给一位刚开始跑步的朋友写三条建议，每条一句话。",
    "Explain to a child of ten years what a bank does with the money that people bring to it.",
    "Summarize in one sentence: The committee met on Friday. It discussed the budget, the new library, and the repair of the old "
    "bridge over the river. Only the repair was approved; the rest was moved to the next meeting in March.",
    "Which news section fits this headline: Striker out for six weeks after injury in cup final?",
    "世界上最长的河流是哪一条？它流经哪些国家？",
    "List five words that describe a storm at sea.",
    "What is the difference between weather and climate?",
    "请列出做西红柿炒鸡蛋需要的材料和步骤。",
    "Rewrite in plain English: The aforementioned premises shall be vacated forthwith by the lessee.",
    "Give a title for a story about a lighthouse keeper who finds a letter in a bottle.",
    "Is it better to learn two languages at the same time or one after the other? Give one reason for each side.",
)
