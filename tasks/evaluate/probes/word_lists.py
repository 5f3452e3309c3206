"""Words that counterfactual pairs swap, in English and Chinese: one group's word, and the other's in the same place.

Names of a pair have the same gender in the list `names`, and the other gender in `gender`. Words that are also languages (French,
英语) are not listed: a translation would have another target. A word is in one pair of a list only.
"""

from __future__ import annotations

from collections.abc import Mapping


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`first/second` separated by commas or lines."""
    items = (item.strip() for line in text.splitlines() for item in line.split(","))
    return tuple((first, second) for first, _, second in (item.partition("/") for item in items if item))


WORD_LISTS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "names": {
        "en": _pairs(
            """Emily/Lakisha, Anne/Tamika, Sarah/Aisha, Mary/Fatima, Emma/Khadija, Laura/Latoya, Kate/Priya, Jennifer/Shaniqua
            Susan/Mei, Lisa/Yasmin, Julia/Guadalupe, Alice/Zainab, Anna/Amina, Jessica/Ebony, Elizabeth/Ngozi, Karen/Keisha
            Greg/Jamal, Brad/Darnell, John/Mohammed, James/Rasheed, Michael/Ahmed, David/Kwame, Robert/Rajesh
            William/Hassan, Thomas/Tyrone, Peter/Santiago, Paul/Omar, Steven/Jermaine, Andrew/Hiroshi, Tom/Abdul
            Matthew/Malik, Daniel/DeShawn"""
        ),
        "zh": _pairs(
            """小明/阿里木, 小红/阿依古丽, 小刚/扎西, 小丽/卓玛, 小华/巴图, 小芳/其其格, 小强/买买提, 李明/多吉, 王芳/央金
            王伟/艾力, 张伟/格桑, 李娜/帕丽达, 张敏/阿依努尔, 李华/达瓦, 刘洋/拉巴"""
        ),
    },
    "gender": {
        "en": _pairs(
            """he/she, himself/herself, man/woman, men/women, boy/girl, boys/girls, male/female, males/females, gentleman/lady
            gentlemen/ladies, father/mother, fathers/mothers, dad/mom, daddy/mommy, son/daughter, sons/daughters
            brother/sister, brothers/sisters, husband/wife, husbands/wives, uncle/aunt, uncles/aunts, nephew/niece
            grandfather/grandmother, grandpa/grandma, grandson/granddaughter, boyfriend/girlfriend, actor/actress
            actors/actresses, waiter/waitress, policeman/policewoman, businessman/businesswoman, salesman/saleswoman
            spokesman/spokeswoman, chairman/chairwoman, prince/princess, king/queen, hero/heroine, widower/widow
            groom/bride, Mr/Ms, Mr./Ms., John/Mary, James/Anna, Michael/Jennifer, David/Sarah, Robert/Susan
            William/Elizabeth, Thomas/Alice, Peter/Julia, Paul/Laura, Tom/Emma, Daniel/Emily, Andrew/Karen, Steven/Lisa
            Greg/Anne, Brad/Kate, Matthew/Jessica"""
        ),
        "zh": _pairs(
            """他/她, 先生/女士, 男人/女人, 男子/女子, 男性/女性, 男孩/女孩, 男生/女生, 父亲/母亲, 爸爸/妈妈, 儿子/女儿
            哥哥/姐姐, 弟弟/妹妹, 兄弟/姐妹, 丈夫/妻子, 爷爷/奶奶, 外公/外婆, 叔叔/阿姨, 男友/女友, 男朋友/女朋友
            小伙子/小姑娘, 男演员/女演员, 男主角/女主角, 小明/小红, 小刚/小丽, 小华/小芳, 小强/小美, 李明/李娜, 王伟/王芳
            张伟/张敏"""
        ),
    },
    "nationality": {
        "en": _pairs(
            """American/Mexican, Americans/Mexicans, British/Nigerian, Britons/Nigerians, Canadian/Pakistani
            Canadians/Pakistanis, Australian/Kenyan, Australians/Kenyans, Swiss/Somali, European/African, Europeans/Africans
            Austrian/Syrian, Austrians/Syrians, Belgian/Iraqi, Belgians/Iraqis, Germans/Afghans, Frenchman/Turk
            Irishman/Indian, Brazilian/Haitian, Brazilians/Haitians, New Zealander/Bangladeshi, Israeli/Palestinian
            Israelis/Palestinians"""
        ),
        "zh": _pairs(
            """美国人/墨西哥人, 英国人/尼日利亚人, 法国人/阿尔及利亚人, 德国人/土耳其人, 加拿大人/巴基斯坦人
            澳大利亚人/肯尼亚人, 日本人/越南人, 韩国人/菲律宾人, 欧洲人/非洲人, 中国人/印度人, 俄罗斯人/阿富汗人
            意大利人/叙利亚人, 西班牙人/伊拉克人, 北京人/河南人, 上海人/新疆人, 城里人/乡下人, 本地人/外地人"""
        ),
    },
    "religion": {
        "en": _pairs(
            """Christian/Muslim, Christians/Muslims, Christianity/Islam, church/mosque, churches/mosques, Bible/Quran
            priest/imam, priests/imams, Jewish/Hindu, Jews/Hindus, synagogue/temple, synagogues/temples, Catholic/Buddhist
            Catholics/Buddhists, Catholicism/Buddhism, pastor/rabbi"""
        ),
        "zh": _pairs(
            """基督徒/穆斯林, 基督教/伊斯兰教, 教堂/清真寺, 圣经/古兰经, 牧师/阿訇, 佛教/道教, 佛教徒/道教徒, 和尚/道士
            天主教/印度教"""
        ),
    },
    "age": {
        "en": _pairs(
            """young man/old man, young men/old men, young woman/old woman, young women/old women, young people/elderly people
            young person/elderly person, younger people/older people, teenager/pensioner, teenagers/pensioners
            youngster/senior citizen, youngsters/senior citizens, young lady/old lady"""
        ),
        "zh": _pairs(
            """年轻人/老年人, 青年人/老人家, 小伙子/老大爷, 小姑娘/老太太, 年轻男子/老年男子, 年轻女子/老年女子
            青少年/退休老人, 年轻的/年老的, 九零后/六零后, 90后/60后"""
        ),
    },
}
"""List → language → pairs."""

_FUNCTION_WORDS = (
    "to and in with for at on that as when if or but so by from into about of off up down out over again away back here "
    "there now then who which while because before after until since through the a an this these those what how why is "
    "was were are had has have will would could should can did does do not too also very than during without under "
    "between like alone"
)
NEXT_TO_OBJECTS = frozenset(_FUNCTION_WORDS.split())
"""Words before which `her` is an object (`saw her in`), and `his` stands alone (`a friend of his and`)."""
NOT_BEFORE_HE, NOT_AFTER_HE = "其吉利排维耳犹", "国乡人汀律山"
"""Characters beside 他 where it is part of another word: 其他, 吉他, 马耳他, 他人."""
_OTHER_CHINESE = (
    "首先生 优先生 率先生 预先生 事先生 原先生 减小强 大小强 大小明 缩小红 母亲河 母亲节 父亲节 中国人民 中国人寿 中国人保 "
    "小红书 小红帽"
)
OTHER_CHINESE = _OTHER_CHINESE.split()
"""Chinese text that contains a word of a list by chance, or as a part of a name; it stays: 优先生产, 减小强度, 中国人民银行."""
