"""The words of `quality`: a small list of toxic words, English and Chinese.

The toxic list holds words that are an insult or a slur in nearly every context, and excludes words with another meaning (杂种 is
also a hybrid, 智障 a disability, "chink" a gap), since a filter should not drop good rows. For more words, add a rule to the
contract. English words match as whole words, Chinese ones anywhere in the text.
"""

from __future__ import annotations

_TOXIC = """
    asshole assholes bitch bitches bullshit cunt cunts dickhead dickheads dumbass fag faggot faggots fags fuck fucked fucker
    fuckers fucking fucks jackass kike kikes motherfucker motherfuckers motherfucking nigga niggas nigger niggers retards
    shit shithead shits shitty slut sluts spics twat twats wanker wankers wetback wetbacks whore whores
"""
TOXIC_WORDS = frozenset(_TOXIC.split())
TOXIC_PARTS = (
    "操你妈", "草泥马", "日你妈", "肏", "傻逼", "傻屄", "煞笔", "妈逼", "他妈的", "你妈的", "狗娘养", "狗杂种", "王八蛋", "臭婊子",
    "婊子养", "贱货", "死全家", "去死吧", "黑鬼", "支那猪", "脑残", "狗东西",
)  # fmt: skip
